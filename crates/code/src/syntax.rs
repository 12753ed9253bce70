//! The syntax tree as a list in the order of the text.
//!
//! Rules and matchers go over a tree many times. Asking the parser's own tree for a child or a kind costs tens of nanoseconds
//! each, and for a parent a search from the root; here all of it was asked once, and a walk is a loop over a list.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use tree_sitter::Tree;

use crate::{Language, is_comment};

/// The words of a grammar by number.
#[derive(Debug)]
pub(crate) struct Grammar {
    /// What the parser is given.
    pub parser: &'static tree_sitter::Language,
    kinds: Vec<&'static str>,
    fields: Vec<&'static str>,
}

impl Grammar {
    /// The grammar that parses this text of the language.
    pub(crate) fn of(language: Language, text: &str) -> &'static Grammar {
        static PARSERS: [OnceLock<tree_sitter::Language>; 8] = [const { OnceLock::new() }; 8];
        static GRAMMARS: [OnceLock<Grammar>; 8] = [const { OnceLock::new() }; 8];
        // What stands before the first opening tag is a page's text; without one there is only code.
        let is_page = language == Language::Php && text.contains("<?");
        let place = if is_page { Language::ALL.len() } else { language as usize };
        let parser: &'static tree_sitter::Language = PARSERS[place].get_or_init(|| match language {
            Language::Python => tree_sitter_python::LANGUAGE.into(),
            Language::C => tree_sitter_c::LANGUAGE.into(),
            Language::Cpp => tree_sitter_cpp::LANGUAGE.into(),
            Language::Java => tree_sitter_java::LANGUAGE.into(),
            Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Language::Go => tree_sitter_go::LANGUAGE.into(),
            Language::Php if is_page => tree_sitter_php::LANGUAGE_PHP.into(),
            Language::Php => tree_sitter_php::LANGUAGE_PHP_ONLY.into(),
        });
        GRAMMARS[place].get_or_init(|| Grammar {
            parser,
            kinds: (0..parser.node_kind_count() as u16)
                .map(|id| parser.node_kind_for_id(id).unwrap_or_default())
                .collect(),
            // Fields are numbered from 1; 0 stands for none.
            fields: (0..=parser.field_count() as u16)
                .map(|id| parser.field_name_for_id(id).unwrap_or_default())
                .collect(),
        })
    }

    fn kind(&self, id: u16) -> &'static str {
        // The number of errors lies beyond those of the grammar.
        self.kinds.get(usize::from(id)).copied().unwrap_or("ERROR")
    }
}

/// A tree is deeper than was allowed.
#[derive(Debug)]
pub(crate) struct TooDeep {
    /// Where the node starts whose children are too deep, in bytes.
    pub offset: usize,
}

/// The nodes of a tree, parents before children, in the order of the text.
#[derive(Clone, Debug)]
pub(crate) struct Syntax {
    grammar: &'static Grammar,
    entries: Vec<Entry>,
    /// Places of the comments.
    comments: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    end: u32,
    /// Place of the parent; the root's is its own.
    parent: u32,
    /// Place behind the last node of the subtree.
    next: u32,
    kind: u16,
    field: u16,
    is_named: bool,
    is_missing: bool,
    has_error: bool,
}

impl Syntax {
    /// Reads a tree, or stops where it goes more than `maximum_depth` nodes deep.
    pub(crate) fn read(
        tree: &Tree,
        grammar: &'static Grammar,
        maximum_depth: usize,
    ) -> Result<Syntax, TooDeep> {
        let may_have_errors = tree.root_node().has_error();
        let mut entries: Vec<Entry> = Vec::with_capacity(tree.root_node().descendant_count());
        let mut comments = Vec::new();
        let mut above: Vec<u32> = Vec::new();
        let mut cursor = tree.walk();
        'nodes: loop {
            let node = cursor.node();
            let place = entries.len() as u32;
            let kind = node.kind_id();
            if is_comment(grammar.kind(kind)) {
                comments.push(place);
            }
            entries.push(Entry {
                start: node.start_byte() as u32,
                end: node.end_byte() as u32,
                parent: above.last().copied().unwrap_or(place),
                next: place + 1,
                kind,
                field: cursor.field_id().map_or(0, |field| field.get()),
                is_named: node.is_named(),
                is_missing: may_have_errors && node.is_missing(),
                has_error: may_have_errors && node.has_error(),
            });
            if cursor.goto_first_child() {
                above.push(place);
                if above.len() >= maximum_depth {
                    return Err(TooDeep { offset: node.start_byte() });
                }
                continue;
            }
            while !cursor.goto_next_sibling() {
                let Some(parent) = above.pop() else { break 'nodes };
                cursor.goto_parent();
                entries[parent as usize].next = entries.len() as u32;
            }
        }
        Ok(Syntax { grammar, entries, comments })
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node { syntax: self, place: 0 }
    }

    pub(crate) fn comments(&self) -> impl Iterator<Item = Node<'_>> {
        self.comments.iter().map(|&place| Node { syntax: self, place })
    }

    /// The tree without its comments: what a text with spaces in their places parses to, as comments may stand anywhere and mean
    /// nothing. A node that a comment began or ended becomes shorter.
    pub(crate) fn without_comments(&self) -> Syntax {
        let mut kept: Vec<Entry> = Vec::with_capacity(self.entries.len());
        // New places of the nodes, and of what stands behind the last one.
        let mut moved: Vec<u32> = Vec::with_capacity(self.entries.len() + 1);
        let mut until = 0;
        let mut comments = self.comments.iter().copied().peekable();
        for (place, entry) in self.entries.iter().enumerate() {
            moved.push(kept.len() as u32);
            if comments.next_if_eq(&(place as u32)).is_some() && place > 0 {
                until = until.max(entry.next);
            }
            if (place as u32) >= until {
                kept.push(*entry);
            }
        }
        moved.push(kept.len() as u32);
        for entry in &mut kept {
            entry.parent = moved[entry.parent as usize];
            entry.next = moved[entry.next as usize];
        }
        let mut syntax = Syntax { grammar: self.grammar, entries: kept, comments: Vec::new() };
        // Children come behind their parents: from the last to the first, each node sees its children as they will be.
        let mut old_places = vec![0_u32; syntax.entries.len()];
        // What was dropped has the new place of what follows it, which comes later.
        for (old, &new) in moved.iter().take(self.entries.len()).enumerate() {
            if let Some(place) = old_places.get_mut(new as usize) {
                *place = old as u32;
            }
        }
        for new in (1..syntax.entries.len()).rev() {
            let old = Node { syntax: self, place: old_places[new] };
            let node = Node { syntax: &syntax, place: new as u32 };
            let (Some((old_first, old_last)), Some((first, last))) = (old.ends(), node.ends()) else {
                continue;
            };
            let start = if old_first.start_byte() == old.start_byte() {
                first.start_byte()
            } else {
                old.start_byte()
            };
            let end = if old_last.end_byte() == old.end_byte() { last.end_byte() } else { old.end_byte() };
            (syntax.entries[new].start, syntax.entries[new].end) = (start as u32, end as u32);
        }
        syntax
    }
}

/// A node of a syntax tree; [`crate::Parsed::root`] hands out the first.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    syntax: &'t Syntax,
    place: u32,
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.syntax, other.syntax) && self.place == other.place
    }
}

impl Eq for Node<'_> {}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:?}", self.kind(), self.byte_range())
    }
}

/// Children of a node, in order.
#[derive(Clone, Debug)]
pub struct Children<'t> {
    syntax: &'t Syntax,
    next: u32,
    end: u32,
}

impl<'t> Iterator for Children<'t> {
    type Item = Node<'t>;

    fn next(&mut self) -> Option<Node<'t>> {
        if self.next >= self.end {
            return None;
        }
        let place = self.next;
        self.next = self.syntax.entries[place as usize].next;
        Some(Node { syntax: self.syntax, place })
    }
}

impl<'t> Node<'t> {
    fn entry(&self) -> &'t Entry {
        &self.syntax.entries[self.place as usize]
    }

    fn at(&self, place: u32) -> Node<'t> {
        Node { syntax: self.syntax, place }
    }

    /// The grammar's word for it; `ERROR` for what could not be parsed.
    pub fn kind(&self) -> &'static str {
        self.syntax.grammar.kind(self.entry().kind)
    }

    /// The field of its parent that it stands in.
    pub fn field_name(&self) -> Option<&'static str> {
        match self.entry().field {
            0 => None,
            field => self.syntax.grammar.fields.get(usize::from(field)).copied(),
        }
    }

    /// Tells it from every other node of its tree.
    pub fn id(&self) -> usize {
        self.place as usize
    }

    /// Its first byte.
    pub fn start_byte(&self) -> usize {
        self.entry().start as usize
    }

    /// The byte behind its last one.
    pub fn end_byte(&self) -> usize {
        self.entry().end as usize
    }

    /// Its bytes.
    pub fn byte_range(&self) -> Range<usize> {
        self.start_byte()..self.end_byte()
    }

    /// Whether it is more than a mark or a word of the language.
    pub fn is_named(&self) -> bool {
        self.entry().is_named
    }

    /// Whether it stands for text that could not be parsed.
    pub fn is_error(&self) -> bool {
        self.kind() == "ERROR"
    }

    /// Whether it stands for a token that should be there and is not.
    pub fn is_missing(&self) -> bool {
        self.entry().is_missing
    }

    /// Whether there is a syntax error in it.
    pub fn has_error(&self) -> bool {
        self.entry().has_error
    }

    /// The node around it.
    pub fn parent(&self) -> Option<Node<'t>> {
        (self.place > 0).then(|| self.at(self.entry().parent))
    }

    /// Its children.
    pub fn children(&self) -> Children<'t> {
        Children { syntax: self.syntax, next: self.place + 1, end: self.entry().next }
    }

    /// Those of its children that are more than marks and words of the language.
    pub fn named_children(&self) -> impl Iterator<Item = Node<'t>> + use<'t> {
        self.children().filter(Node::is_named)
    }

    /// The first child in a field.
    pub fn child_by_field_name(&self, name: &str) -> Option<Node<'t>> {
        self.children().find(|child| child.field_name() == Some(name))
    }

    /// All children in a field.
    pub fn children_by_field_name<'n>(&self, name: &'n str) -> impl Iterator<Item = Node<'t>> + use<'t, 'n> {
        self.children().filter(move |child| child.field_name() == Some(name))
    }

    /// Its child with this number.
    pub fn child(&self, number: usize) -> Option<Node<'t>> {
        self.children().nth(number)
    }

    /// Its named child with this number.
    pub fn named_child(&self, number: usize) -> Option<Node<'t>> {
        self.named_children().nth(number)
    }

    /// How many children it has.
    pub fn child_count(&self) -> usize {
        self.children().count()
    }

    /// How many of them are named.
    pub fn named_child_count(&self) -> usize {
        self.named_children().count()
    }

    /// The next child of its parent.
    pub fn next_sibling(&self) -> Option<Node<'t>> {
        let next = self.entry().next;
        (next < self.parent()?.entry().next).then(|| self.at(next))
    }

    /// The next named child of its parent.
    pub fn next_named_sibling(&self) -> Option<Node<'t>> {
        let mut next = self.next_sibling();
        while let Some(node) = next.filter(|node| !node.is_named()) {
            next = node.next_sibling();
        }
        next
    }

    /// The child of its parent that stands before it.
    pub fn prev_sibling(&self) -> Option<Node<'t>> {
        self.parent()?.children().take_while(|child| child.place < self.place).last()
    }

    /// The smallest node of its subtree that covers these bytes, itself at the least.
    pub fn descendant_for_byte_range(&self, start: usize, end: usize) -> Node<'t> {
        let mut node = *self;
        while let Some(child) = node
            .children()
            .find(|child| child.end_byte() >= end && child.start_byte() <= start && child.end_byte() > start)
        {
            node = child;
        }
        node
    }

    /// Its first child and its last one.
    fn ends(&self) -> Option<(Node<'t>, Node<'t>)> {
        Some((self.children().next()?, self.children().last()?))
    }

    /// Its subtree, parents before children.
    pub(crate) fn subtree(&self) -> Range<u32> {
        self.place..self.entry().next
    }

    /// Calls `visit` on its subtree, as [`crate::Parsed::walk`].
    pub(crate) fn walk(&self, mut visit: impl FnMut(Node<'t>) -> bool) {
        let Range { start: mut place, end } = self.subtree();
        while place < end {
            let node = self.at(place);
            place = if visit(node) { place + 1 } else { node.entry().next };
        }
    }

    /// Its named nodes as an S-expression, with fields.
    pub fn to_sexp(&self) -> String {
        let mut text = String::new();
        // How many parentheses are open, by the place behind the subtree that opened them.
        let mut open: Vec<u32> = Vec::new();
        for place in self.subtree() {
            let node = self.at(place);
            while open.last().is_some_and(|end| *end <= place) {
                open.pop();
                text.push(')');
            }
            if !node.is_named() && !node.is_missing() {
                continue;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            if let Some(field) = node.field_name().filter(|_| place > self.place) {
                text.push_str(field);
                text.push_str(": ");
            }
            text.push('(');
            text.push_str(if node.is_missing() { "MISSING " } else { "" });
            text.push_str(node.kind());
            open.push(node.entry().next);
        }
        text.extend(open.iter().map(|_| ')'));
        text
    }
}

#[cfg(test)]
mod tests;
