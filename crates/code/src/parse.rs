//! Parsing a text into a tree whose spans refer to the text as it was given.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use tree_sitter::{InputEdit, ParseOptions, ParseState, Parser, Point, Tree};

use crate::leaves::{Leaf, collect};
use crate::syntax::{Grammar, Syntax};
use crate::{Function, Language, Node, Span};

mod breaks;

pub use breaks::breaks_at;

/// The longest text that is parsed, in bytes.
pub const MAXIMUM_TEXT_BYTES: usize = 1 << 20;

/// The deepest syntax tree that is accepted, in nodes from the root to a leaf.
///
/// Whoever follows every block of a text into its inner blocks needs time in proportion to length times depth,
/// so the depth must not grow with the length. A pair of brackets or braces is one to three nodes deep, and so
/// is each operator of a chain (`a + b + c`) and each `else if` of C; people do not nest code nearly this deep.
pub const MAXIMUM_DEPTH: usize = 2_000;

/// Why a text was not parsed at all. A text with syntax errors *is* parsed; see [`Parsed::is_clean`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is longer than [`MAXIMUM_TEXT_BYTES`].
    #[error("the text has {bytes} bytes, more than the {MAXIMUM_TEXT_BYTES} that are parsed")]
    TooLong {
        /// Length of the text in bytes.
        bytes: usize,
    },
    /// Error recovery would have taken out of all proportion to the length of the text, or the syntax tree is
    /// deeper than [`MAXIMUM_DEPTH`].
    #[error(
        "the parser gave up on {bytes} bytes of {language} at byte {offset}: too many errors, or a syntax tree \
         of more than {MAXIMUM_DEPTH} levels"
    )]
    TooComplex {
        /// The language that was asked for.
        language: Language,
        /// Length of the text in bytes.
        bytes: usize,
        /// How far the parser had come, or where the tree becomes too deep.
        offset: usize,
    },
    /// The grammar and the parser library are of incompatible versions.
    #[error("the {language} grammar cannot be loaded: {why}")]
    Grammar {
        /// The language that was asked for.
        language: Language,
        /// What the parser library says.
        why: String,
    },
}

impl ParseError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ParseError::TooLong { .. } => Some("split the text, or drop the record".to_string()),
            ParseError::TooComplex { language, .. } => {
                Some(format!("check that the text is {language} at all, or drop the record"))
            }
            ParseError::Grammar { .. } => Some("build with the locked dependencies (--locked)".to_string()),
        }
    }
}

/// A text with its syntax tree and leaf tokens. All spans refer to the text as it was given. Copies share what was found.
#[derive(Clone, Debug)]
pub struct Parsed {
    text: Arc<str>,
    language: Language,
    syntax: Arc<Syntax>,
    leaves: Arc<[Leaf]>,
    is_excerpt: bool,
    /// What [`Parsed::functions`] found, once it was asked.
    pub(crate) functions: OnceLock<Arc<[Function]>>,
}

/// The parser reports its progress at least once in this many bytes of a text it has no trouble with; a text
/// that needs more reports than this allows is being parsed over and over by error recovery. Counting reports
/// instead of reading a clock keeps the result the same on every machine.
const REPORTS_FLOOR: usize = 50_000;
const REPORTS_PER_BYTE: usize = 4;

/// Parses `text`. Texts with syntax errors give a tree that says where (see [`Parsed::first_error`]); only a
/// text that is too long, nested deeper than [`MAXIMUM_DEPTH`], or on which the parser gives up, is an error.
/// Never panics.
///
/// A Python method may come with its original indentation, four or more spaces before `def`: the grammar's
/// scanner measures indentation from line ends, so the first line may stand anywhere.
///
/// ```
/// use vul2safe_code::{Language, parse};
///
/// let parsed = parse(Language::Python, "    @property\n    def size(self):\n        return self._size\n")?;
/// assert!(parsed.is_clean());
/// assert_eq!(parsed.functions()[0].span.start, 4);
/// # Ok::<(), vul2safe_code::ParseError>(())
/// ```
pub fn parse(language: Language, text: &str) -> Result<Parsed, ParseError> {
    let tree = tree(language, text)?;
    finish(language, text, &tree, false)
}

/// As [`parse`], for a text that was cut out of a file. Where it is not well-formed by itself, what the cut took away is
/// put around it (the class around a method, the object around a member, the return type on the line above a C function, the
/// function around C statements),
/// and if that makes it well-formed, the tree is that one: the nodes of what was added have no width, and all other spans
/// refer to the text as it was given.
///
/// ```
/// use vul2safe_code::{Language, parse, parse_excerpt};
///
/// let method = "public function find($name)\n{\n    return $this->rows[$name];\n}\n";
/// assert!(!parse(Language::Php, method)?.is_clean());
/// let parsed = parse_excerpt(Language::Php, method)?;
/// assert!(parsed.is_clean());
/// assert_eq!(parsed.functions()[0].signature.text(method), Some("public function find($name)"));
/// # Ok::<(), vul2safe_code::ParseError>(())
/// ```
pub fn parse_excerpt(language: Language, text: &str) -> Result<Parsed, ParseError> {
    let parsed = parse(language, text)?;
    if parsed.is_clean() || parsed.leaves.is_empty() {
        return Ok(parsed);
    }
    for (before, after) in surroundings(language) {
        let whole = format!("{before}{text}{after}");
        let Ok(mut tree) = tree(language, &whole) else { continue };
        if tree.root_node().has_error() {
            continue;
        }
        // An edit that takes the additions out moves every node to where it stands in the text.
        let end = before.len() + text.len();
        take_out(&mut tree, end, whole.len());
        take_out(&mut tree, 0, before.len());
        return finish(language, text, &tree, true);
    }
    Ok(parsed)
}

impl Parsed {
    /// The same code with every comment replaced by spaces (see [`crate::blank_comments`]) and none in its tree. Spans stay valid.
    ///
    /// # Errors
    /// As [`parse`], of a text with syntax errors, which is parsed again.
    pub fn without_comments(&self) -> Result<Parsed, ParseError> {
        if self.comments().next().is_none() {
            return Ok(self.clone());
        }
        let blanked = crate::blank_comments(self);
        // What the parser makes of an error may hang on what stands beside it.
        match (self.root().has_error(), self.is_excerpt) {
            (true, true) => return parse_excerpt(self.language, &blanked),
            (true, false) => return parse(self.language, &blanked),
            _ => {}
        }
        Ok(Parsed {
            text: blanked.into(),
            language: self.language,
            syntax: Arc::new(self.syntax.without_comments()),
            leaves: Arc::clone(&self.leaves),
            is_excerpt: self.is_excerpt,
            functions: OnceLock::new(),
        })
    }

    /// The comments, in order.
    pub fn comments(&self) -> impl Iterator<Item = Node<'_>> {
        self.syntax.comments()
    }
}

/// What a text may have lost when it was cut out, in front of it and behind it.
fn surroundings(language: Language) -> &'static [(&'static str, &'static str)] {
    match language {
        // A method keeps its `self` and parses anywhere; Go has no classes.
        Language::Python | Language::Go => &[],
        // Some statements can only be told from declarations inside a function.
        Language::C => &[("int ", ""), ("void f() {", "}")],
        Language::Cpp => &[("int ", ""), ("class A {", "};"), ("void f() {", "}")],
        Language::Java | Language::Php => &[("class A {", "}")],
        Language::JavaScript => &[("class A {", "}"), ("({", "})")],
    }
}

/// Tells the tree that the bytes from `start` to `end` are gone. Only bytes are moved right; nobody here asks for rows.
fn take_out(tree: &mut Tree, start: usize, end: usize) {
    let point = Point::new(0, start);
    tree.edit(&InputEdit {
        start_byte: start,
        old_end_byte: end,
        new_end_byte: start,
        start_position: point,
        old_end_position: Point::new(0, end),
        new_end_position: point,
    });
}

fn tree(language: Language, text: &str) -> Result<Tree, ParseError> {
    let bytes = text.len();
    if bytes > MAXIMUM_TEXT_BYTES {
        return Err(ParseError::TooLong { bytes });
    }
    let mut parser = Parser::new();
    parser
        .set_language(Grammar::of(language, text).parser)
        .map_err(|error| ParseError::Grammar { language, why: error.to_string() })?;
    run(&mut parser, language, text)
}

/// Parses with a parser that has its language, for as long as the length of the text warrants.
fn run(parser: &mut Parser, language: Language, text: &str) -> Result<Tree, ParseError> {
    let bytes = text.len();
    let mut reports_left = REPORTS_FLOOR + REPORTS_PER_BYTE * bytes;
    let mut offset = 0;
    let mut progress = |state: &ParseState| {
        offset = state.current_byte_offset();
        if reports_left == 0 {
            return ControlFlow::Break(());
        }
        reports_left -= 1;
        ControlFlow::Continue(())
    };
    let source = text.as_bytes();
    let tree = parser.parse_with_options(
        &mut |start, _| source.get(start..).unwrap_or_default(),
        None,
        Some(ParseOptions::new().progress_callback(&mut progress)),
    );
    tree.ok_or(ParseError::TooComplex { language, bytes, offset })
}

fn finish(language: Language, text: &str, tree: &Tree, is_excerpt: bool) -> Result<Parsed, ParseError> {
    let syntax = Syntax::read(tree, Grammar::of(language, text), MAXIMUM_DEPTH).map_err(|too_deep| {
        ParseError::TooComplex { language, bytes: text.len(), offset: too_deep.offset }
    })?;
    let leaves = collect(syntax.root(), text, language).into();
    let syntax = Arc::new(syntax);
    Ok(Parsed { text: text.into(), language, syntax, leaves, is_excerpt, functions: OnceLock::new() })
}

impl Parsed {
    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The language it was parsed as.
    pub fn language(&self) -> Language {
        self.language
    }

    /// The root of the syntax tree. Byte offsets of its nodes refer to [`Parsed::text`].
    pub fn root(&self) -> Node<'_> {
        self.syntax.root()
    }

    /// Whether the text is well-formed only with what [`parse_excerpt`] put around it.
    pub fn is_excerpt(&self) -> bool {
        self.is_excerpt
    }

    /// Whether the text parsed without any error or missing token, and holds at least one leaf token.
    ///
    /// A text of nothing but comments and white space is not clean: no answer can be judged by it.
    pub fn is_clean(&self) -> bool {
        !self.root().has_error() && !self.leaves.is_empty()
    }

    /// Where the first syntax error lies (an ERROR node, or the place of a missing token).
    pub fn first_error(&self) -> Option<Span> {
        if !self.root().has_error() {
            return None;
        }
        let mut found = None;
        Parsed::walk(self.root(), |node| {
            if found.is_none() && (node.is_error() || node.is_missing()) {
                found = Some(Span::from(node.byte_range()));
            }
            found.is_none() && node.has_error()
        });
        Some(found.unwrap_or_else(|| Span::from(self.root().byte_range())))
    }

    /// The leaf tokens, in order, non-overlapping, without comments and white space.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The text of leaf `index`; empty where there is no such leaf.
    pub fn leaf_text(&self, index: usize) -> &str {
        self.leaves.get(index).and_then(|leaf| leaf.span.text(&self.text)).unwrap_or_default()
    }

    /// The text of a node of this tree.
    pub fn node_text(&self, node: Node<'_>) -> &str {
        self.text.get(node.byte_range()).unwrap_or_default()
    }

    /// Calls `visit` on every node of the subtree of `node`, parents before children, in order of the text.
    /// Where `visit` returns `false` the node's children are skipped. Uses no recursion, so nesting of any
    /// depth is safe.
    pub fn walk<'tree>(node: Node<'tree>, visit: impl FnMut(Node<'tree>) -> bool) {
        node.walk(visit);
    }
}

#[cfg(test)]
mod tests;
