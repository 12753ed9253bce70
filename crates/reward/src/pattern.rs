//! One pattern: a short leaf sequence in which local names are slots, and how it is matched.

use crate::Sign;
use crate::sequence::{Class, Item, Positions, Shape};
use std::ops::Range;
use std::sync::Arc;

/// One place of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    /// This class and this text.
    Exact(Class, Arc<str>),
    /// A local name: the same one wherever the slot occurs, and no other slot's.
    Slot(u16),
    /// A string of this shape.
    Shaped(Shape),
}

/// How freely a pattern is read from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Local names keep their text. Needed where the two sides differ in a local name only.
    pub pinned: bool,
    /// String contents may differ where their shape is the same.
    pub shaped: bool,
}

/// A pattern of one record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    pub elements: Vec<Element>,
    /// The elements that are rewarded; the others only locate them.
    pub rewarded: Range<usize>,
    slots: usize,
    pub sign: Sign,
    /// The place of the diff it belongs to, so that a fix next to its own flaw earns nothing.
    pub place: Option<usize>,
    pub reason: Arc<str>,
    pub record: Arc<str>,
}

/// Names that occur in any code and say nothing of it.
const COMMON_NAMES: [&str; 24] = [
    "self",
    "cls",
    "len",
    "str",
    "int",
    "bool",
    "list",
    "dict",
    "set",
    "tuple",
    "range",
    "print",
    "isinstance",
    "super",
    "size_t",
    "int32_t",
    "uint32_t",
    "uint8_t",
    "uint64_t",
    "int64_t",
    "u32",
    "u8",
    "Exception",
    "i",
];

/// Words of the language that occur in any code.
const COMMON_KEYWORDS: [&str; 32] = [
    "if", "else", "elif", "return", "not", "in", "and", "or", "for", "while", "def", "None", "True", "False",
    "is", "int", "char", "void", "const", "unsigned", "NULL", "true", "false", "struct", "static", "break",
    "continue", "long", "try", "except", "as", "bool",
];

impl Element {
    /// Whether it tells this code from other code: not a local name, not punctuation, not a word that any
    /// function has.
    fn is_telling(&self) -> bool {
        match self {
            Element::Exact(Class::Free, text) => !COMMON_NAMES.contains(&&**text),
            Element::Exact(Class::Attribute, text) => text.len() > 1,
            Element::Exact(Class::Keyword, text) => !COMMON_KEYWORDS.contains(&&**text),
            Element::Exact(Class::Content, text) => text.chars().filter(|c| c.is_alphanumeric()).count() > 1,
            Element::Exact(Class::Number, text) => text.len() > 2,
            Element::Shaped(shape) => shape.is_telling(),
            _ => false,
        }
    }

    fn is_word(&self) -> bool {
        !matches!(self, Element::Exact(Class::Punctuation | Class::Delimiter | Class::Boundary, _))
    }
}

impl Pattern {
    /// Reads the items in `window` as a pattern that rewards `rewarded` (both index `items`).
    pub(crate) fn read(
        items: &[Item<'_>],
        window: Range<usize>,
        rewarded: Range<usize>,
        reading: Reading,
        like: &Pattern,
    ) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let mut elements = Vec::with_capacity(window.len());
        for item in &items[window.clone()] {
            elements.push(match item.class {
                Class::Local if !reading.pinned => {
                    let slot = names.iter().position(|&name| name == item.text).unwrap_or_else(|| {
                        names.push(item.text);
                        names.len() - 1
                    });
                    // Windows are a few thousand leaves at most, far below 65,536 names.
                    Element::Slot(u16::try_from(slot).unwrap_or(u16::MAX))
                }
                Class::Content if reading.shaped => Element::Shaped(item.shape),
                class => Element::Exact(class, Arc::from(item.text)),
            });
        }
        let rewarded = rewarded.start - window.start..rewarded.end - window.start;
        Self { elements, rewarded, slots: names.len(), ..like.clone() }
    }

    /// A pattern without elements, to be filled by [`Pattern::read`].
    pub(crate) fn blank(sign: Sign, place: Option<usize>, reason: Arc<str>, record: Arc<str>) -> Self {
        Self { elements: Vec::new(), rewarded: 0..0, slots: 0, sign, place, reason, record }
    }

    /// Whether the sequence says enough to be looked for in an answer to its own record's prompt.
    pub(crate) fn says_enough(&self) -> bool {
        self.elements.len() >= 3
            && self.elements.iter().filter(|element| element.is_word()).count() >= 2
            && self.elements.iter().any(Element::is_telling)
    }

    /// Whether the sequence says enough to be looked for in the code of other records: a free name or an
    /// attribute with its surroundings, or an interpolation inside a query, a page, a path or an address.
    pub(crate) fn is_distinctive(&self) -> bool {
        let names = self.elements.iter().filter(|element| {
            matches!(element, Element::Exact(Class::Free | Class::Attribute | Class::Keyword, _))
                && element.is_telling()
        });
        let interpolated = self.elements.iter().any(
            |element| matches!(element, Element::Shaped(shape) if shape.is_telling() && shape.touches_interpolation()),
        );
        // What is rewarded has to be more than a number, a mark or a local name, or it could be anybody's.
        let rewarded = self.elements[self.rewarded.clone()].iter().any(|element| match element {
            Element::Exact(Class::Keyword, _) => true,
            other => other.is_telling() && !matches!(other, Element::Exact(Class::Number, _)),
        });
        self.elements.len() >= 6 && rewarded && (names.count() >= 1 || interpolated)
    }

    /// Whether the pattern matches the items from `start` on. `names` is scratch space.
    pub(crate) fn matches_at<'a>(
        &self,
        items: &[Item<'a>],
        start: usize,
        names: &mut Vec<Option<&'a str>>,
    ) -> bool {
        let Some(window) = items.get(start..start + self.elements.len()) else { return false };
        names.clear();
        names.resize(self.slots, None);
        for (element, item) in self.elements.iter().zip(window) {
            let fits = match element {
                Element::Exact(class, text) => *class == item.class && **text == *item.text,
                Element::Shaped(shape) => item.class == Class::Content && *shape == item.shape,
                Element::Slot(slot) => {
                    item.class == Class::Local
                        && match names[usize::from(*slot)] {
                            Some(name) => name == item.text,
                            None => {
                                // Two slots never share a name: a renaming that merges two variables is
                                // another program.
                                let free = !names.contains(&Some(item.text));
                                names[usize::from(*slot)] = Some(item.text);
                                free
                            }
                        }
                }
            };
            if !fits {
                return false;
            }
        }
        true
    }

    /// Whether the pattern occurs anywhere in a text.
    pub(crate) fn occurs_in(&self, positions: &Positions<'_>) -> bool {
        let mut names = Vec::new();
        let rarest = self
            .elements
            .iter()
            .enumerate()
            .filter_map(|(offset, element)| match element {
                Element::Exact(_, text) => Some((positions.of(text), offset)),
                _ => None,
            })
            .min_by_key(|(places, _)| places.len());
        match rarest {
            Some((places, offset)) => places.iter().any(|&place| {
                place >= offset && self.matches_at(&positions.items, place - offset, &mut names)
            }),
            None => {
                (0..positions.items.len()).any(|start| self.matches_at(&positions.items, start, &mut names))
            }
        }
    }
}
