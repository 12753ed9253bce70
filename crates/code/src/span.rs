//! Byte spans.

use serde::{Deserialize, Serialize};

/// A half-open range of bytes, `start..end`, in some text.
///
/// A span carries no reference to its text. [`Span::text`] checks the bounds, so a span that came from outside
/// can be used without fear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Span {
    /// First byte of the span.
    pub start: usize,
    /// First byte after the span.
    pub end: usize,
}

impl Span {
    /// A span from `start` to `end`. An `end` before `start` gives the empty span at `start`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end: end.max(start) }
    }

    /// Number of bytes.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether the span holds no byte.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Whether every byte of `other` lies in `self`. An empty span is contained where it touches.
    pub fn contains(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two share at least one byte.
    pub fn overlaps(self, other: Span) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// The smallest span that contains both.
    pub fn cover(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The text of the span, or `None` if it leaves `text` or cuts a character in two.
    pub fn text(self, text: &str) -> Option<&str> {
        text.get(self.start..self.end)
    }
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Span {
        Span::new(range.start, range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations() {
        let outer = Span::new(2, 8);
        let inner = Span::new(3, 5);
        assert!(outer.contains(inner) && !inner.contains(outer));
        assert!(outer.overlaps(inner));
        assert!(!Span::new(0, 2).overlaps(outer), "touching is not overlapping");
        assert_eq!(Span::new(0, 1).cover(outer), Span::new(0, 8));
        assert_eq!(Span::new(5, 3), Span::new(5, 5), "an end before the start gives an empty span");
        assert!(Span::new(5, 3).is_empty());
    }

    #[test]
    fn text_is_checked() {
        assert_eq!(Span::new(0, 2).text("é!"), Some("é"));
        assert_eq!(Span::new(0, 1).text("é!"), None, "half a character");
        assert_eq!(Span::new(0, 9).text("é!"), None, "past the end");
        assert_eq!(Span { start: 3, end: 1 }.text("abcd"), None, "reversed");
    }
}
