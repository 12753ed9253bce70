//! Finds what a teacher quotes. A claim is never trusted by position, only by the text it quotes.

use vul2safe_code::Span;

/// Where a quote stands in a text; the first place if there are several. Nothing when it does not occur, or holds
/// nothing but white space.
///
/// Where the quote has white space the text must have some too, however much; around the quote it does not count.
pub(crate) fn locate(quote: &str, text: &str) -> Option<Span> {
    let wanted: Vec<&str> = quote.split_whitespace().collect();
    let first = wanted.first()?;
    let mut from = 0;
    while let Some(offset) = text[from..].find(first) {
        let start = from + offset;
        if let Some(end) = matches_at(&wanted, text, start) {
            return Some(Span::new(start, end));
        }
        // The next character, since a piece may begin inside of the last one.
        from = start + text[start..].chars().next().map_or(1, char::len_utf8);
    }
    None
}

/// One past the last byte, if the pieces stand at `start` with some white space between each two.
fn matches_at(wanted: &[&str], text: &str, start: usize) -> Option<usize> {
    let mut at = start;
    for (index, piece) in wanted.iter().enumerate() {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        if index > 0 {
            if trimmed.len() == rest.len() {
                return None;
            }
            at += rest.len() - trimmed.len();
        }
        if !text[at..].starts_with(piece) {
            return None;
        }
        at += piece.len();
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn white_space_is_free() {
        let code = "def f(a):\n    b = g(a,\n          1)\n    return b\n";
        let found = |quote: &str| locate(quote, code).and_then(|span| code.get(span.start..span.end));
        assert_eq!(found("b = g(a, 1)"), Some("b = g(a,\n          1)"));
        assert_eq!(found("  return b\n"), Some("return b"));
        assert_eq!(found("return  c"), None);
        assert_eq!(found("g(a,1)"), None);
        assert_eq!(found(" \n"), None);
        assert_eq!(locate("aab", "aaab").map(|span| span.start), Some(1));
    }

    proptest! {
        #[test]
        fn what_is_cut_out_of_a_text_is_found_in_it(text in "[ab\u{fc} \n]{1,40}", from in 0usize..40, length in 1usize..20) {
            let characters: Vec<char> = text.chars().collect();
            let quote: String = characters.iter().skip(from).take(length).collect();
            if let Some(span) = locate(&quote, &text) {
                let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                prop_assert_eq!(normal(&text[span.start..span.end]), normal(&quote));
            } else {
                prop_assert!(quote.trim().is_empty());
            }
        }

        #[test]
        fn never_panics(quote in "\\PC{0,20}", text in "\\PC{0,60}") {
            locate(&quote, &text);
        }
    }
}
