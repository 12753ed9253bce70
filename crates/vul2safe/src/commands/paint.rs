//! Code with coloured byte ranges, for a terminal; with marks instead where there is no colour.

use anstyle::{AnsiColor, Style};

use crate::words::visible;

/// A byte range and how to paint it.
pub(super) struct Paint {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) good: bool,
}

/// Whether stdout shows colours: a terminal that does not set `NO_COLOR`, or `CLICOLOR_FORCE`.
pub(super) fn colours() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// `text` with green and red ranges; without colours `⟦+ … +⟧` and `⟦- … -⟧`.
pub(super) fn paint(text: &str, paints: &[Paint], colours: bool) -> String {
    let mut out = String::with_capacity(text.len() + 16 * paints.len());
    let mut sorted: Vec<&Paint> = paints.iter().filter(|paint| paint.start < paint.end).collect();
    sorted.sort_by_key(|paint| (paint.start, std::cmp::Reverse(paint.end)));
    let mut position = 0;
    for paint in sorted {
        let start = paint.start.max(position);
        let (Some(before), Some(inside)) = (text.get(position..start), text.get(start..paint.end)) else {
            continue;
        };
        out.push_str(&visible(before));
        out.push_str(&painted(&visible(inside), paint.good, colours));
        position = paint.end;
    }
    out.push_str(&visible(text.get(position..).unwrap_or_default()));
    out
}

fn painted(text: &str, good: bool, colours: bool) -> String {
    if !colours {
        let mark = if good { '+' } else { '-' };
        return format!("⟦{mark}{text}{mark}⟧");
    }
    let style = style(good);
    // Each line on its own: a background over a line break runs to the edge of some terminals.
    text.split('\n').map(|line| format!("{style}{line}{style:#}")).collect::<Vec<_>>().join("\n")
}

/// Green for what is rewarded, red for what is penalised.
pub(super) fn style(good: bool) -> Style {
    let colour = if good { AnsiColor::Green } else { AnsiColor::Red };
    Style::new().bold().fg_color(Some(colour.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_nest_nothing_and_lose_nothing() {
        let paints = [
            Paint { start: 4, end: 7, good: true },
            Paint { start: 5, end: 9, good: false },
            Paint { start: 2, end: 2, good: true },
        ];
        assert_eq!(paint("abcdefghij", &paints, false), "abcd⟦+efg+⟧⟦-hi-⟧j");
        let stripped =
            anstream::adapter::strip_str(&paint("ab\ncd", &[Paint { start: 0, end: 5, good: true }], true))
                .to_string();
        assert_eq!(stripped, "ab\ncd");
    }

    #[test]
    fn ranges_that_cut_a_character_are_left_out() {
        assert_eq!(paint("é", &[Paint { start: 1, end: 2, good: true }], false), "é");
    }
}
