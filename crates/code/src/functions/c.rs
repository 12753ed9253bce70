//! Functions of C and C++.

use crate::Node;

use super::{Parts, add, comment_above};
use crate::Parsed;

pub(super) fn parts<'tree>(parsed: &Parsed, node: Node<'tree>) -> Option<Parts<'tree>> {
    if node.kind() != "function_definition" {
        return None;
    }
    let body = node.child_by_field_name("body")?;
    let in_class = node
        .parent()
        .and_then(|block| block.parent())
        .is_some_and(|holder| matches!(holder.kind(), "class_specifier" | "struct_specifier"));
    let (name, parameters) = name_and_parameters(parsed, node);
    let takes_self = matches!(parameters.first().map(String::as_str), Some("self" | "cls"));
    Some(Parts {
        is_method: in_class || takes_self || name.contains("::"),
        name,
        outer: node,
        start: node.start_byte(),
        body,
        parameters,
        docstring: comment_above(parsed, node),
    })
}

/// Follows declarators (`*`, `&`, parentheses) to the function declarator, and takes its name and parameters.
fn name_and_parameters(parsed: &Parsed, function: Node<'_>) -> (String, Vec<String>) {
    let mut declarator = function.child_by_field_name("declarator");
    while let Some(node) = declarator {
        if node.kind() == "function_declarator" {
            break;
        }
        let inner = node.child_by_field_name("declarator");
        declarator =
            inner.or_else(|| node.named_child(0).filter(|child| child.kind().ends_with("declarator")));
    }
    let Some(declarator) = declarator else { return (String::new(), Vec::new()) };
    let name = declarator
        .child_by_field_name("declarator")
        .map(|name| parsed.node_text(name).split_whitespace().collect::<String>())
        .unwrap_or_default();
    let mut parameters = Vec::new();
    if let Some(list) = declarator.child_by_field_name("parameters") {
        for parameter in list.named_children() {
            let name = match parameter.kind() {
                "identifier" => Some(parameter),
                _ => parameter.child_by_field_name("declarator").and_then(declared_name),
            };
            if let Some(name) = name {
                add(&mut parameters, parsed.node_text(name));
            }
        }
    }
    (name, parameters)
}

/// The identifier that a C declarator declares.
fn declared_name(declarator: Node<'_>) -> Option<Node<'_>> {
    let mut node = declarator;
    loop {
        if matches!(node.kind(), "identifier" | "field_identifier") {
            return Some(node);
        }
        let inner = node.child_by_field_name("declarator").or_else(|| {
            node.named_children()
                .find(|child| child.kind() == "identifier" || child.kind().ends_with("declarator"))
        });
        node = inner?;
    }
}

pub(super) fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    if !matches!(node.kind(), "declaration" | "parameter_declaration" | "for_range_loop") {
        return;
    }
    for declarator in node.children_by_field_name("declarator") {
        if let Some(name) = declared_name(declarator) {
            add(locals, parsed.node_text(name));
        }
    }
}
