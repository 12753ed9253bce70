//! Where a text stops being the beginning of a program.

use super::{Grammar, run, surroundings};
use crate::{Language, Span};
use std::sync::{Arc, Mutex};
use tree_sitter::Parser;

/// What of a parser's own account shows where it met its first error.
#[derive(Default)]
struct Account {
    /// Row and column, in bytes, of the farthest place up to which some reading of the text went.
    farthest: (usize, usize),
    /// The token that no reading could go on with, by the grammar's name.
    refused: Option<String>,
    /// Whether error recovery has begun: what follows is guesswork.
    recovers: bool,
}

impl Account {
    fn read(&mut self, line: &str) {
        if self.recovers {
            return;
        }
        if let Some(state) = line.strip_prefix("process version:") {
            let number =
                |name: &str| state.split(", ").find_map(|part| part.strip_prefix(name)?.parse().ok());
            if let (Some(row), Some(column)) = (number("row:"), number("col:")) {
                self.farthest = self.farthest.max((row, column));
            }
        } else if let Some(name) = line.strip_prefix("detect_error lookahead:") {
            self.refused = Some(name.to_owned());
        } else if line.starts_with("resume version:") {
            self.recovers = true;
        }
    }
}

/// The first token of a text with syntax errors with which it can no longer be the beginning of a program: an LR parser refuses a token
/// as soon as nothing could follow that would make it right. Error recovery comes after that, so that nothing hangs on how it guesses,
/// as it does in [`crate::Parsed::first_error`]. At least the first character of the token; an empty span at the end where
/// all of the text could still be completed; `None` for a text without a syntax error, and one that is not parsed.
///
/// A missing bracket or operand is noticed at the token after it, a string that is not closed right behind its opening quote: its text is one token.
///
/// ```
/// use vul2safe_code::{Language, breaks_at};
///
/// let text = "def a(x):\n    y = f(x\n    return y\n";
/// let span = breaks_at(Language::Python, text).expect("does not parse");
/// assert!(text[span.start..].starts_with("return"));
/// assert_eq!(breaks_at(Language::Python, "x = 1\n"), None);
/// ```
pub fn breaks_at(language: Language, text: &str) -> Option<Span> {
    // Cut out of a file, a text may only be read with what stood around it: what counts is the reading that goes farthest.
    let mut farthest: Option<Span> = None;
    for &(before, after) in [("", "")].iter().chain(surroundings(language)) {
        let span = breaks_within(language, before, text, after)?;
        farthest = Some(farthest.map_or(span, |known| if span.start > known.start { span } else { known }));
    }
    farthest
}

/// As [`breaks_at`], with something around the text; places in it count from its own beginning.
fn breaks_within(language: Language, before: &str, text: &str, after: &str) -> Option<Span> {
    let whole = format!("{before}{text}{after}");
    let mut parser = Parser::new();
    parser.set_language(Grammar::of(language, text).parser).ok()?;
    let account = Arc::new(Mutex::new(Account::default()));
    let shared = Arc::clone(&account);
    parser.set_logger(Some(Box::new(move |_, line| {
        if let Ok(mut account) = shared.lock() {
            account.read(line);
        }
    })));
    let tree = run(&mut parser, language, &whole).ok()?;
    if !tree.root_node().has_error() {
        return None;
    }
    let account = account.lock().ok()?;
    let (row, column) = account.farthest;
    let line: usize = whole.split_inclusive('\n').take(row).map(str::len).sum();
    let read = (line + column).saturating_sub(before.len()).min(text.len());
    // White space in front of the refused token is no part of it, unless it is a line's end that was refused.
    let line_end = matches!(account.refused.as_deref(), Some("_newline" | "_indent" | "_dedent" | "ERROR"));
    let rest = text.get(read..)?;
    let token = rest
        .trim_start_matches(|character: char| character.is_whitespace() && !(line_end && character == '\n'));
    let start = text.len() - token.len();
    Some(Span::new(start, start + token.chars().next().map_or(0, char::len_utf8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands where the text breaks, to the end of its line.
    fn broken(language: Language, text: &str) -> &str {
        let span = breaks_at(language, text).unwrap_or_else(|| panic!("does not break: {text}"));
        text[span.start..].split_inclusive('\n').next().unwrap_or_default()
    }

    #[test]
    fn the_first_token_that_nothing_could_make_right() {
        let cases = [
            ("def a(x):\n    y = f(x\n    return y\n", "return y\n"),
            ("def a(x):\n    return f(x))\n", ")\n"),
            ("def a(x):\n    return f(x, ?)\n", "?)\n"),
            ("def a(x:\n    return x\n", "return x\n"),
            ("def a(x):\n    y = \"one\n    return y\n", "one\n"),
            ("def a(x):\n    y = x +\n    return y\n", "return y\n"),
            ("def a(x)\n    return x\n", "\n"),
            ("def a(x):\nreturn x)\n", ")\n"),
            ("x = [1, 2\n\n\n", ""),
            ("zwölf = 12\nx = 1 2\n", "2\n"),
        ];
        let found = cases.map(|(text, _)| (text, broken(Language::Python, text)));
        assert_eq!(found, cases);
        assert_eq!(broken(Language::C, "int f(int x)\n{\n  int y = x\n  return y;\n}\n"), "return y;\n");
        assert_eq!(broken(Language::JavaScript, "function f(x) {\n  return [x;\n}\n"), ";\n");
    }

    #[test]
    fn what_parses_breaks_nowhere() {
        assert_eq!(breaks_at(Language::Python, "def a(x):\n    return x\n"), None);
        assert_eq!(breaks_at(Language::Php, "public function find($name)\n{\n    return $name;\n}\n"), None);
    }

    #[test]
    fn what_was_cut_out_of_a_file_is_read_with_what_stood_around_it() {
        assert_eq!(broken(Language::Php, "public function find($name)\n{\n    return $name];\n}\n"), "];\n");
        assert_eq!(broken(Language::Java, "public int find(int a) {\n    return a);\n}\n"), ");\n");
    }
}
