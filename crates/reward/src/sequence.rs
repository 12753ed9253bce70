//! An answer as the matcher sees it: leaf tokens with what may vary already told apart from what may not.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use vul2safe_code::{Language, LeafKind, Parsed, Span};

/// What a pattern has to know of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// A name that is bound outside the function, or imported: exact.
    Free,
    /// A parameter, or a name bound in a function: may be renamed.
    Local,
    Attribute,
    Keyword,
    Number,
    /// The characters of a string.
    Content,
    Delimiter,
    Punctuation,
    /// The end of a Python function. White space is no leaf, and without this mark "nothing follows" could not
    /// be told from "something follows".
    Boundary,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub class: Class,
    /// The leaf's text; a Python delimiter is spelled by its prefix only, so that both quotes are one.
    pub text: &'a str,
    pub span: Span,
    /// Only meaningful for [`Class::Content`].
    pub shape: Shape,
}

/// What stays of a string when its words are forgotten: where placeholders and interpolations are, and what
/// sort of text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Shape {
    /// Bits of [`Shape::of`].
    bits: u16,
    /// What stands before an interpolation that follows, and after one that precedes.
    before: Border,
    after: Border,
}

/// The character of a string that touches an interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Border {
    /// No interpolation there.
    #[default]
    None,
    Quote,
    Slash,
    Angle,
    Other,
}

impl Shape {
    const SQL: u16 = 1;
    const HTML: u16 = 2;
    const PATH: u16 = 4;
    const URL: u16 = 8;
    const QUESTION: u16 = 16;
    const PERCENT: u16 = 32;
    const BRACES: u16 = 64;
    const NAMED: u16 = 128;
    const QUOTED: u16 = 256;
    const WORD: u16 = 512;

    fn of(text: &str, after_interpolation: bool, before_interpolation: bool) -> Self {
        let mut bits = 0;
        let bytes = text.as_bytes();
        let mut blank = false;
        for (index, &byte) in bytes.iter().enumerate() {
            let next = bytes.get(index + 1).copied().unwrap_or(b' ');
            let previous = if index == 0 { b' ' } else { bytes[index - 1] };
            let placeholder = match byte {
                b'?' if !next.is_ascii_alphanumeric() && !previous.is_ascii_alphanumeric() => Self::QUESTION,
                b'%' if matches!(next, b's' | b'd' | b'r' | b'(' | b'u' | b'i') => Self::PERCENT,
                b'{' if next == b'}' || next.is_ascii_alphanumeric() => Self::BRACES,
                b':' if next.is_ascii_alphabetic() && matches!(previous, b' ' | b'=' | b'(' | b',') => {
                    Self::NAMED
                }
                b'<' if next.is_ascii_alphabetic() || next == b'/' => {
                    bits |= Self::HTML;
                    0
                }
                b'/' if next == b'/' && previous == b':' => {
                    bits |= Self::URL;
                    0
                }
                b'/' => {
                    bits |= Self::PATH;
                    0
                }
                _ => 0,
            };
            if placeholder != 0 && matches!(previous, b'\'' | b'"') {
                bits |= Self::QUOTED;
            }
            bits |= placeholder;
            blank |= byte.is_ascii_whitespace();
        }
        let verbs =
            ["select", "insert", "update", "delete", "where", "values", "from", "drop", "create", "set"];
        let words = text.split(|character: char| !character.is_ascii_alphabetic());
        if blank && words.into_iter().any(|word| verbs.iter().any(|verb| word.eq_ignore_ascii_case(verb))) {
            bits |= Self::SQL;
        }
        if !blank && bits == 0 {
            bits |= Self::WORD;
        }
        let border = |asked: bool, byte: Option<&u8>| match byte {
            _ if !asked => Border::None,
            Some(b'\'' | b'"' | b'`') => Border::Quote,
            Some(b'/' | b'\\') => Border::Slash,
            Some(b'<' | b'>') => Border::Angle,
            _ => Border::Other,
        };
        Self {
            bits,
            before: border(before_interpolation, bytes.last()),
            after: border(after_interpolation, bytes.first()),
        }
    }

    /// Whether the text is recognisably a query, a page, a path or an address.
    pub(crate) fn is_telling(self) -> bool {
        self.bits & (Self::SQL | Self::HTML | Self::URL | Self::PATH) != 0
    }

    /// Whether a value is interpolated next to it.
    pub(crate) fn touches_interpolation(self) -> bool {
        self.before != Border::None || self.after != Border::None
    }
}

/// The items of a parsed text, in reading order.
pub(crate) fn items(parsed: &Parsed) -> Vec<Item<'_>> {
    let text = parsed.text();
    let functions = parsed.functions();
    let imported = imported_names(parsed);
    let scopes: Vec<(Span, HashSet<&str>)> = functions
        .iter()
        .map(|function| (function.span, function.locals.iter().map(String::as_str).collect()))
        .collect();
    let mut ends: Vec<usize> = Vec::new();
    if parsed.language() == Language::Python {
        ends.extend(functions.iter().map(|function| function.span.end));
        ends.sort_unstable();
    }
    let mut ends = ends.into_iter().peekable();
    let boundary =
        |end| Item { class: Class::Boundary, text: "", span: Span::new(end, end), shape: Shape::default() };

    let mut items = Vec::with_capacity(parsed.leaves().len() + functions.len());
    for leaf in parsed.leaves() {
        while let Some(end) = ends.next_if(|&end| end <= leaf.span.start) {
            items.push(boundary(end));
        }
        let content = leaf.span.text(text).unwrap_or_default();
        let class = match leaf.kind {
            LeafKind::Name if imported.contains(content) => Class::Free,
            LeafKind::Name => {
                let bound =
                    scopes.iter().any(|(span, names)| span.contains(leaf.span) && names.contains(content));
                if bound { Class::Local } else { Class::Free }
            }
            LeafKind::Attribute => Class::Attribute,
            LeafKind::Keyword => Class::Keyword,
            LeafKind::Number => Class::Number,
            LeafKind::StringContent => Class::Content,
            LeafKind::StringDelimiter => Class::Delimiter,
            LeafKind::Punctuation => Class::Punctuation,
        };
        let content = match class {
            Class::Delimiter if parsed.language() == Language::Python => python_delimiter(content),
            _ => content,
        };
        items.push(Item { class, text: content, span: leaf.span, shape: Shape::default() });
    }
    items.extend(ends.map(boundary));
    let is_braces_only = matches!(parsed.language(), Language::Python | Language::C | Language::Cpp);
    for index in 0..items.len() {
        if items[index].class == Class::Content {
            // A character or a pattern that is one leaf with its quotes has other code beside it.
            let quoted = items[index].text.starts_with('\'');
            let ends_string = |other: Option<usize>| {
                let other = other.and_then(|other| items.get(other));
                quoted || other.is_none_or(|item| item.class == Class::Delimiter || item.text == "/")
            };
            let is = |other: Option<usize>, text| {
                other.and_then(|other| items.get(other)).is_some_and(|item: &Item<'_>| item.text == text)
            };
            let (after, before) = if is_braces_only {
                (is(index.checked_sub(1), "}"), is(Some(index + 1), "{"))
            } else {
                // `${name}`, `{$name}` and `$name` all stand between two runs of a string.
                (!ends_string(index.checked_sub(1)), !ends_string(Some(index + 1)))
            };
            let shape = Shape::of(items[index].text, after, before);
            items[index].shape = shape;
        }
    }
    items
}

/// The items whose bytes overlap `span`.
pub(crate) fn items_in(items: &[Item<'_>], span: Span) -> Range<usize> {
    let first = items.partition_point(|item| item.span.end <= span.start);
    let last = items.partition_point(|item| item.span.start < span.end);
    let mut range = first..last.max(first);
    // Boundaries are no code: a range neither begins nor ends with one.
    while !range.is_empty() && items[range.start].class == Class::Boundary {
        range.start += 1;
    }
    while !range.is_empty() && items[range.end - 1].class == Class::Boundary {
        range.end -= 1;
    }
    range
}

/// Names bound by import statements: an imported module keeps its meaning only under its own name.
fn imported_names(parsed: &Parsed) -> HashSet<&str> {
    let mut names = HashSet::new();
    if parsed.language() != Language::Python || !parsed.text().contains("import") {
        return names;
    }
    Parsed::walk(parsed.root(), |node| {
        if !matches!(node.kind(), "import_statement" | "import_from_statement") {
            return true;
        }
        Parsed::walk(node, |inner| {
            if inner.kind() == "identifier" {
                names.insert(parsed.node_text(inner));
            }
            true
        });
        false
    });
    names
}

/// `r`, `b` and `f` change what a string means; the sort of quote does not.
fn python_delimiter(text: &str) -> &'static str {
    let has = |letter: char| text.chars().any(|character| character.eq_ignore_ascii_case(&letter));
    match (has('r'), has('b'), has('f')) {
        (false, false, false) => "\"",
        (true, false, false) => "r\"",
        (false, true, false) => "b\"",
        (true, true, _) => "rb\"",
        (false, _, true) => "f\"",
        (true, false, true) => "fr\"",
    }
}

/// Where each text stands among the items, so that a rare one can be looked up.
pub(crate) struct Positions<'a> {
    pub items: Vec<Item<'a>>,
    by_text: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Positions<'a> {
    pub(crate) fn new(items: Vec<Item<'a>>) -> Self {
        let mut by_text: HashMap<&'a str, Vec<usize>> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            by_text.entry(item.text).or_default().push(index);
        }
        Self { items, by_text }
    }

    /// Indices of the items with this text, ascending.
    pub(crate) fn of(&self, text: &str) -> &[usize] {
        self.by_text.get(text).map_or(&[], Vec::as_slice)
    }
}
