//! How much of an answer is copied from training texts, token by token.
//!
//! A token is a word (letters, digits, `_`) or one other character; white space counts for nothing, comments and
//! strings count like code. What is copied is told by windows of [`WINDOW`] tokens that occur in a training text: single
//! calls and idioms are shorter than that, and whoever writes the same idiom has not copied it.

use crate::names::stable_hash;

/// Tokens that must follow each other as in a training text to count as copied.
pub const WINDOW: usize = 16;

/// What is known of training texts: the windows that occur in them, 8 bytes each.
///
/// ```
/// use vul2safe_range::{CopyIndex, WINDOW};
///
/// let index = CopyIndex::new(["def add(one, two):\n    total = one + two\n    print(total)\n    return total\n"]);
/// let copied = index.copied("def add(one, two):\n  total = one + two\n  print(total)\n").expect("long enough");
/// assert_eq!((copied.share, copied.longest_run), (1.0, 17));
/// assert_eq!(index.copied("def mul(a, b):\n    result = a * b\n    print(result)\n").expect("long enough").share, 0.0);
/// assert_eq!(index.copied("def add(one, two):"), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct CopyIndex {
    /// Hashes of windows, sorted.
    windows: Vec<u64>,
}

/// How much of one answer is copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyShare {
    /// Tokens inside a window that occurs in a training text, of all tokens of the answer: 0 to 1.
    pub share: f64,
    /// Tokens of the longest run of such windows that start one token apart. Its parts may come from several texts, as long
    /// as these overlap by a window less a token.
    pub longest_run: usize,
}

impl CopyIndex {
    /// Indexes training texts: the code of a base corpus, both sides of records. Takes some 50 ns a token.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> CopyIndex {
        let mut windows: Vec<u64> = Vec::new();
        let mut sorted = 0;
        for text in texts {
            windows.extend(hashed_windows(text));
            // Training texts repeat themselves: duplicates are thrown away before they fill the memory.
            if windows.len() > 2 * sorted + (1 << 20) {
                windows.sort_unstable();
                windows.dedup();
                sorted = windows.len();
            }
        }
        windows.sort_unstable();
        windows.dedup();
        windows.shrink_to_fit();
        CopyIndex { windows }
    }

    /// How much of `answer` is copied; `None` if it has fewer tokens than a [`WINDOW`], too few to tell.
    pub fn copied(&self, answer: &str) -> Option<CopyShare> {
        let seen: Vec<bool> =
            hashed_windows(answer).map(|window| self.windows.binary_search(&window).is_ok()).collect();
        if seen.is_empty() {
            return None;
        }
        let tokens = seen.len() + WINDOW - 1;
        let (mut covered, mut longest_run, mut run) = (0, 0, 0);
        let mut covered_up_to = 0;
        for (start, seen) in seen.into_iter().enumerate() {
            run = if seen { run + 1 } else { 0 };
            if seen {
                covered += start + WINDOW - covered_up_to.max(start);
                covered_up_to = start + WINDOW;
                longest_run = longest_run.max(run + WINDOW - 1);
            }
        }
        Some(CopyShare { share: covered as f64 / tokens as f64, longest_run })
    }
}

/// A hash of every window of the text, in order.
fn hashed_windows(text: &str) -> impl Iterator<Item = u64> {
    let tokens: Vec<u64> = tokens(text).map(stable_hash).collect();
    let count = (tokens.len() + 1).saturating_sub(WINDOW);
    (0..count).map(move |start| {
        tokens[start..start + WINDOW].iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, token| {
            (hash.rotate_left(5) ^ token).wrapping_mul(0x0100_0000_01b3)
        })
    })
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim_start();
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let word = |character: char| character.is_alphanumeric() || character == '_';
        let end = if word(first) {
            rest.find(|character| !word(character)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let token = &rest[..end];
        rest = rest[end..].trim_start();
        Some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `from`, `from + 1`, … as a text of `count` tokens.
    fn numbers(from: usize, count: usize) -> String {
        (from..from + count).map(|number| format!("n{number} ")).collect()
    }

    #[test]
    fn a_text_is_words_and_single_characters() {
        let found: Vec<&str> = tokens("  a_1 = \"é ü\"\n\t// b\u{a0}c").collect();
        assert_eq!(found, ["a_1", "=", "\"", "é", "ü", "\"", "/", "/", "b", "c"]);
        assert_eq!(tokens(" \n").count(), 0);
    }

    #[test]
    fn windows_that_overlap_are_counted_once() {
        let index = CopyIndex::new([numbers(0, 100).as_str(), &numbers(200, WINDOW)]);
        // answer → share of its tokens, longest run
        for (answer, tokens, covered, longest_run) in [
            (numbers(0, 100), 100, 100, 100),
            (numbers(30, WINDOW), WINDOW, WINDOW, WINDOW),
            (numbers(90, 20), 20, 0, 0),
            (numbers(80, 40), 40, 20, 20),
            (format!("{}x {}", numbers(0, 20), numbers(50, 30)), 51, 50, 30),
            (format!("{}{}", numbers(0, 20), numbers(200, WINDOW)), 36, 36, 20),
            (numbers(300, 50), 50, 0, 0),
        ] {
            let expected = CopyShare { share: covered as f64 / tokens as f64, longest_run };
            assert_eq!(index.copied(&answer), Some(expected), "{answer}");
        }
        assert_eq!(index.copied(&numbers(0, WINDOW - 1)), None);
        assert_eq!(index.copied(""), None);
    }

    #[test]
    fn an_index_of_nothing_knows_nothing() {
        let index = CopyIndex::new([]);
        assert_eq!(index.copied(&numbers(0, 20)), Some(CopyShare { share: 0.0, longest_run: 0 }));
    }

    #[test]
    fn many_texts_are_all_remembered() {
        let texts: Vec<String> = (0..60_000).map(|text| numbers(text * 40 % 1_000_000, 40)).collect();
        let index = CopyIndex::new(texts.iter().map(String::as_str));
        assert!(
            texts
                .iter()
                .step_by(997)
                .all(|text| index.copied(text).is_some_and(|copied| copied.share == 1.0))
        );
    }
}
