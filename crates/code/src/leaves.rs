//! Leaf tokens: what is left of a text without comments and white space.

use crate::{Language, Node, Parsed, Span};

/// What sort of token a leaf is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum LeafKind {
    /// A free or local identifier, or the name of a type.
    Name,
    /// A name after a dot or arrow, or the name of a keyword argument.
    Attribute,
    /// A reserved word, including `None`, `True`, `NULL` and primitive types.
    Keyword,
    /// A number.
    Number,
    /// The characters of a string between its delimiters, one leaf for each run between interpolations.
    StringContent,
    /// The opening (with its prefix) or closing quote of a string.
    StringDelimiter,
    /// Everything else.
    Punctuation,
}

/// One token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Leaf {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: LeafKind,
}

/// Whether a node of this kind is a comment.
pub fn is_comment(kind: &str) -> bool {
    matches!(kind, "comment" | "line_comment" | "block_comment" | "html_comment" | "hash_bang_line")
}

/// Node kinds that are one leaf although the grammar gives them children.
fn is_whole(kind: &str) -> bool {
    matches!(
        kind,
        "string_content" | "raw_string_content" | "preproc_arg" | "system_lib_string" | "preproc_directive"
    )
}

/// Collects the leaves below `root`.
///
/// Some grammars leave characters out of every node (the text of a Python format specifier, skipped characters
/// in an error). Such gaps become leaves too, so that no code escapes comparison.
pub(crate) fn collect(root: Node<'_>, text: &str, language: Language) -> Vec<Leaf> {
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut covered = 0;
    Parsed::walk(root, |node| {
        let span = Span::from(node.byte_range());
        let kind = node.kind();
        let skipped = is_comment(kind) || kind == "line_continuation";
        if !skipped && node.child(0).is_some() && !is_whole(kind) {
            return true;
        }
        if span.end > covered {
            let start = span.start.max(covered);
            fill_gap(&mut leaves, text, covered, start, language);
            if !skipped {
                if kind == "preproc_arg" {
                    split_plain(&mut leaves, text, start, span.end);
                } else {
                    push(&mut leaves, text, Span::new(start, span.end), classify(node, text));
                }
            }
            covered = span.end;
        }
        false
    });
    fill_gap(&mut leaves, text, covered, text.len(), language);
    leaves
}

/// Adds a leaf, trimmed. Runs of string content that touch (the grammar splits them at escapes) become one.
fn push(leaves: &mut Vec<Leaf>, text: &str, span: Span, kind: LeafKind) {
    let Some(content) = span.text(text) else { return };
    if kind == LeafKind::StringContent {
        if content.is_empty() {
            return;
        }
        if let Some(last) = leaves.last_mut()
            && last.kind == LeafKind::StringContent
            && last.span.end == span.start
        {
            last.span.end = span.end;
            return;
        }
        leaves.push(Leaf { span, kind });
        return;
    }
    let start = span.start + (content.len() - content.trim_start().len());
    let trimmed = content.trim();
    if !trimmed.is_empty() {
        leaves.push(Leaf { span: Span::new(start, start + trimmed.len()), kind });
    }
}

/// Makes leaves of code between `start` and `end` that no node covers.
fn fill_gap(leaves: &mut Vec<Leaf>, text: &str, start: usize, end: usize, language: Language) {
    let Some(gap) = Span::new(start, end).text(text) else { return };
    if gap.bytes().all(|byte| byte.is_ascii_whitespace()) {
        return;
    }
    // A backslash before a line end joins lines and is white space in every language here.
    let is_blank = gap.lines().all(|line| matches!(line.trim(), "" | "\\")) && gap.contains('\n');
    if is_blank || (language != Language::Python && gap.trim() == "\\") {
        return;
    }
    split_plain(leaves, text, start, end);
}

/// Splits a stretch without a tree into words, numbers and single marks.
fn split_plain(leaves: &mut Vec<Leaf>, text: &str, start: usize, end: usize) {
    let Some(stretch) = Span::new(start, end).text(text) else { return };
    let mut characters = stretch.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        if character.is_whitespace() {
            continue;
        }
        if character == '\\' && characters.peek().is_some_and(|next| next.1 == '\n' || next.1 == '\r') {
            continue;
        }
        let is_word = |character: char| character.is_alphanumeric() || character == '_';
        let mut stop = offset + character.len_utf8();
        let kind = if is_word(character) {
            while let Some(&(next, following)) = characters.peek() {
                if !is_word(following) {
                    break;
                }
                stop = next + following.len_utf8();
                characters.next();
            }
            if character.is_ascii_digit() { LeafKind::Number } else { LeafKind::Name }
        } else {
            LeafKind::Punctuation
        };
        leaves.push(Leaf { span: Span::new(start + offset, start + stop), kind });
    }
}

fn classify(node: Node<'_>, text: &str) -> LeafKind {
    let kind = node.kind();
    let parent = || node.parent().map(|parent| parent.kind());
    match kind {
        "identifier" => match (node.field_name(), parent()) {
            (Some("attribute"), Some("attribute"))
            | (Some("name"), Some("keyword_argument"))
            | (Some("field"), Some("field_access")) => LeafKind::Attribute,
            // Java writes `find(name)` and `store.find(name)` with the same node.
            (Some("name"), Some("method_invocation")) if is_after_dot(node, text) => LeafKind::Attribute,
            _ => LeafKind::Name,
        },
        // PHP: a member's name, not the name in `$name`.
        "name" => match (node.field_name(), parent()) {
            (Some("name"), Some(holder)) if holder.contains("member_") || holder.starts_with("scoped_") => {
                LeafKind::Attribute
            }
            _ => LeafKind::Name,
        },
        "field_identifier" | "property_identifier" | "private_property_identifier" => LeafKind::Attribute,
        "type_identifier"
        | "namespace_identifier"
        | "statement_identifier"
        | "package_identifier"
        | "blank_identifier"
        | "label_name"
        | "shorthand_property_identifier"
        | "shorthand_property_identifier_pattern"
        | "jsx_identifier" => LeafKind::Name,
        "integer" | "float" | "number_literal" | "number" | "int_literal" | "float_literal"
        | "imaginary_literal" => LeafKind::Number,
        _ if kind.ends_with("_integer_literal") || kind.ends_with("_floating_point_literal") => {
            LeafKind::Number
        }
        "string_content"
        | "escape_sequence"
        | "raw_string_content"
        | "character"
        | "system_lib_string"
        | "escape_interpolation"
        | "string_fragment"
        | "multiline_string_fragment"
        | "character_literal"
        | "interpreted_string_literal_content"
        | "raw_string_literal_content"
        | "rune_literal"
        | "nowdoc_string"
        | "regex_pattern"
        | "jsx_text"
        | "text" => LeafKind::StringContent,
        "string_start"
        | "string_end"
        | "\""
        | "\"\"\""
        | "'"
        | "`"
        | "L\""
        | "u\""
        | "U\""
        | "u8\""
        | "L'"
        | "u'"
        | "U'"
        | "u8'"
        | "R\""
        | "LR\""
        | "uR\""
        | "UR\""
        | "u8R\""
        | "raw_string_delimiter"
        | "heredoc_start"
        | "heredoc_end" => LeafKind::StringDelimiter,
        "true" | "false" | "none" | "null" | "nullptr" | "this" | "primitive_type" | "auto"
        | "preproc_directive" | "null_literal" | "nil" | "super" | "undefined" | "boolean"
        | "boolean_type" | "void_type" | "php_tag" => LeafKind::Keyword,
        _ if !node.is_named()
            && kind.starts_with(|first: char| first.is_ascii_alphabetic() || first == '#') =>
        {
            LeafKind::Keyword
        }
        _ => LeafKind::Punctuation,
    }
}

fn is_after_dot(node: Node<'_>, text: &str) -> bool {
    text.get(..node.start_byte()).is_some_and(|before| before.trim_end().ends_with('.'))
}

/// The text with every comment replaced by spaces, so that no suppression mark and no code in a comment counts.
/// Line ends inside comments are kept, and the length in bytes stays the same, so spans stay valid.
pub fn blank_comments(parsed: &Parsed) -> String {
    let text = parsed.text();
    let mut bytes = text.as_bytes().to_vec();
    for comment in parsed.comments() {
        for byte in &mut bytes[comment.byte_range()] {
            if !matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    // Comments begin and end at character boundaries, so what is left is valid UTF-8; should a grammar ever
    // break that, the replacement characters would change the length, and the text is safer unblanked.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_string())
}

/// The texts of the leaves, for hashing and for finding near-duplicates.
pub fn normalised_leaves(parsed: &Parsed) -> Vec<&str> {
    parsed.leaves().iter().map(|leaf| leaf.span.text(parsed.text()).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests;
