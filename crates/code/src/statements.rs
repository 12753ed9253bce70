//! Statements: which nodes are statements, their headers and the smallest one around a span.

use crate::{Node, Parsed, Span, is_comment};

/// Whether a node of this kind is a statement, or a clause (`elif`, `else`, `except`, `case`) with a header of
/// its own.
pub fn is_statement_kind(kind: &str) -> bool {
    if kind == "compound_statement" {
        // A C block is a body, not a statement of its own.
        return false;
    }
    kind.ends_with("_statement")
        || kind.ends_with("_clause") && !is_part(kind)
        || matches!(
            kind,
            "function_definition"
                | "class_definition"
                | "decorated_definition"
                | "decorator"
                | "declaration"
                | "field_declaration"
                | "type_definition"
                | "for_range_loop"
                | "preproc_include"
                | "preproc_def"
                | "preproc_function_def"
                | "preproc_call"
                | "lexical_declaration"
                | "variable_declaration"
                | "local_variable_declaration"
                | "short_var_declaration"
                | "var_declaration"
                | "const_declaration"
                | "global_declaration"
                | "function_static_declaration"
                | "import_declaration"
                | "function_declaration"
                | "generator_function_declaration"
                | "method_declaration"
                | "method_definition"
                | "constructor_declaration"
                | "switch_expression"
                | "switch_label"
                | "switch_case"
                | "switch_default"
                | "expression_case"
                | "default_case"
                | "type_case"
                | "communication_case"
        )
}

/// Clauses that are parts of a statement's header or of an expression.
fn is_part(kind: &str) -> bool {
    matches!(
        kind,
        "for_in_clause"
            | "if_clause"
            | "with_clause"
            | "for_clause"
            | "range_clause"
            | "import_clause"
            | "export_clause"
            | "from_clause"
            | "namespace_use_clause"
            | "namespace_aliasing_clause"
            | "anonymous_function_use_clause"
    )
}

/// The part of a statement that holds other statements, if any.
fn body<'tree>(node: Node<'tree>) -> Option<Node<'tree>> {
    if let Some(body) = node.child_by_field_name("body").or_else(|| node.child_by_field_name("consequence")) {
        return Some(body);
    }
    match node.kind() {
        "decorated_definition" => node.child_by_field_name("definition"),
        "else_clause" | "finally_clause" | "except_clause" | "catch_clause" => {
            node.children().filter(|child| child.is_named()).last().filter(|last| {
                matches!(last.kind(), "block" | "compound_statement" | "statement_block")
                    || is_statement_kind(last.kind())
            })
        }
        "case_statement" | "switch_case" | "switch_default" | "expression_case" | "default_case"
        | "type_case" | "communication_case" => {
            node.children().skip_while(|child| child.kind() != ":").nth(1)
        }
        _ => None,
    }
}

/// The span of a statement; of a compound statement only its header, without trailing white space.
pub(crate) fn header_span(node: Node<'_>, text: &str) -> Span {
    let span = Span::from(node.byte_range());
    match body(node) {
        Some(body) if body.start_byte() > span.start => {
            let header = &text[span.start..body.start_byte().min(span.end)];
            // A comment may stand between header and body; it ends the header early.
            let end = node
                .children()
                .take_while(|child| child.start_byte() < body.start_byte())
                .filter(|child| !is_comment(child.kind()))
                .last()
                .map_or(span.start + header.trim_end().len(), |child| child.end_byte());
            Span::new(span.start, end)
        }
        _ => span,
    }
}

impl Parsed {
    /// The smallest statement that covers `span`. For a compound statement (`if`, `for`, `def`, …) it is only
    /// the header if the span lies in the header, and the whole statement if the span reaches into the body but
    /// fits into no statement there. `None` if no single statement covers the span.
    pub fn statement_around(&self, span: Span) -> Option<Span> {
        let mut found = None;
        let mut node = self.root();
        loop {
            if is_statement_kind(node.kind()) {
                let header = header_span(node, self.text());
                found = Some(if header.contains(span) { header } else { Span::from(node.byte_range()) });
            }
            let inner = node.children().find(|child| {
                Span::from(child.byte_range()).contains(span) && !child.byte_range().is_empty()
            });
            match inner {
                Some(child) => node = child,
                None => return found,
            }
        }
    }
}

#[cfg(test)]
mod tests;
