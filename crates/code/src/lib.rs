//! Text, byte spans, languages, parsing, leaf tokens, diff and the CWE table.
//!
//! Everything above this crate speaks of code through it: a [`Span`] is a half-open range of *bytes*, a
//! [`Parsed`] is a text with its syntax tree, a [`Leaf`] is a token of that tree that is neither comment nor
//! white space.
//!
//! What this crate refuses to know: files, clocks, processes, global state, and anything about security beyond
//! the names in the CWE table. The same text gives the same answer, bit for bit, and no text makes it panic.
//!
//! ```
//! use vul2safe_code::{Language, diff_leaves, parse};
//!
//! let before = parse(Language::Python, "def find(db, name):\n    return db.execute('a=%s' % name)\n")?;
//! let after = parse(Language::Python, "def find(db, name):\n    return db.execute('a=%s', (name,))\n")?;
//! assert!(before.is_clean() && after.is_clean());
//! assert_eq!(before.functions()[0].parameters, ["db", "name"]);
//!
//! let hunks = diff_leaves(&before, &after);
//! assert_eq!(before.leaves()[hunks[0].before.start].span.text(before.text()), Some("%"));
//! # Ok::<(), vul2safe_code::ParseError>(())
//! ```

mod cwe;
mod diff;
mod functions;
mod language;
mod leaves;
mod outline;
mod parse;
mod span;
mod statements;
mod syntax;

pub use cwe::{Cwe, Severity};
pub use diff::{Hunk, diff_leaves};
pub use functions::Function;
pub use language::{Language, UnknownLanguage};
pub use leaves::{Leaf, LeafKind, blank_comments, is_comment, normalised_leaves};
pub use outline::Outline;
pub use parse::{MAXIMUM_DEPTH, MAXIMUM_TEXT_BYTES, ParseError, Parsed, breaks_at, parse, parse_excerpt};
pub use span::Span;
pub use statements::is_statement_kind;
pub use syntax::{Children, Node};
