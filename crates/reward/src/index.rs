//! Many patterns looked for at once: each is filed under one telling leaf, so that an answer's leaf calls up
//! only the patterns that could match around it.

use crate::pattern::{Element, Pattern};
use crate::sequence::{Class, Item};
use std::collections::HashMap;
use std::sync::Arc;

/// Patterns by their rarest exact leaf.
#[derive(Debug)]
pub(crate) struct Index {
    patterns: Vec<Arc<Pattern>>,
    by_leaf: HashMap<Arc<str>, Vec<Anchor>>,
    /// Patterns of slots and shapes only: tried everywhere.
    anywhere: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    pattern: usize,
    /// Position of the filed leaf in the pattern.
    offset: usize,
}

/// One place where a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    /// Own patterns first, then related ones.
    pub pattern: usize,
    /// First item of the match.
    pub start: usize,
}

impl Index {
    pub(crate) fn new(own: &[Arc<Pattern>], related: &[Arc<Pattern>]) -> Self {
        let patterns: Vec<Arc<Pattern>> = own.iter().chain(related).cloned().collect();
        let mut frequency: HashMap<&str, usize> = HashMap::new();
        for element in patterns.iter().flat_map(|pattern| &pattern.elements) {
            if let Element::Exact(_, text) = element {
                *frequency.entry(text).or_default() += 1;
            }
        }
        let mut by_leaf: HashMap<Arc<str>, Vec<Anchor>> = HashMap::new();
        let mut anywhere = Vec::new();
        for (number, pattern) in patterns.iter().enumerate() {
            let rarest = pattern
                .elements
                .iter()
                .enumerate()
                .filter_map(|(offset, element)| match element {
                    // Marks and words of the language are rare among few patterns and yet in every answer.
                    Element::Exact(class, text) => Some((rank(*class), frequency[&**text], offset, text)),
                    _ => None,
                })
                .min_by_key(|&(rank, frequency, offset, _)| (rank, frequency, offset));
            match rarest {
                Some((_, _, offset, text)) => {
                    by_leaf.entry(text.clone()).or_default().push(Anchor { pattern: number, offset });
                }
                None => anywhere.push(number),
            }
        }
        Self { patterns, by_leaf, anywhere }
    }

    /// All matches in a text, in no particular order of pattern or place but always the same.
    pub(crate) fn matches<'a>(&self, items: &[Item<'a>]) -> Vec<Match> {
        let mut found = Vec::new();
        let mut names = Vec::new();
        for (place, item) in items.iter().enumerate() {
            for anchor in self.by_leaf.get(item.text).map_or(&[][..], Vec::as_slice) {
                if let Some(start) = place.checked_sub(anchor.offset)
                    && self.patterns[anchor.pattern].matches_at(items, start, &mut names)
                {
                    found.push(Match { pattern: anchor.pattern, start });
                }
            }
            for &pattern in &self.anywhere {
                if self.patterns[pattern].matches_at(items, place, &mut names) {
                    found.push(Match { pattern, start: place });
                }
            }
        }
        found
    }
}

/// How good a leaf of this class is as an anchor; smaller is better.
fn rank(class: Class) -> u8 {
    match class {
        Class::Free | Class::Attribute | Class::Content | Class::Local => 0,
        Class::Number => 1,
        Class::Keyword => 2,
        Class::Delimiter => 3,
        Class::Punctuation | Class::Boundary => 4,
    }
}
