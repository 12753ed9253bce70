//! Methods and constructors of Java.

use crate::Node;

use super::{Parts, add, first_identifier, named_parts, names_of_field};
use crate::Parsed;

pub(super) fn parts<'tree>(parsed: &Parsed, node: Node<'tree>) -> Option<Parts<'tree>> {
    if !matches!(node.kind(), "method_declaration" | "constructor_declaration") {
        return None;
    }
    let mut parameters = Vec::new();
    if let Some(list) = node.child_by_field_name("parameters") {
        for parameter in list.named_children() {
            // `int... rest` keeps its name in a declarator.
            let name = match parameter.kind() {
                "formal_parameter" => parameter.child_by_field_name("name"),
                "spread_parameter" => {
                    let declarator =
                        parameter.named_children().find(|child| child.kind() == "variable_declarator");
                    declarator.and_then(|declarator| declarator.child_by_field_name("name"))
                }
                _ => None,
            };
            if let Some(name) = name {
                add(&mut parameters, parsed.node_text(name));
            }
        }
    }
    Some(Parts { start: after_annotations(node), ..named_parts(parsed, node, parameters, true)? })
}

/// Where a declaration begins when its annotations are left out.
fn after_annotations(declaration: Node<'_>) -> usize {
    let is_annotation = |node: &Node<'_>| node.kind().ends_with("annotation");
    for child in declaration.children() {
        if child.kind() != "modifiers" {
            return child.start_byte();
        }
        let first = child.children().find(|modifier| !is_annotation(modifier));
        if let Some(first) = first {
            return first.start_byte();
        }
    }
    declaration.start_byte()
}

pub(super) fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    match node.kind() {
        "variable_declarator"
        | "formal_parameter"
        | "catch_formal_parameter"
        | "enhanced_for_statement"
        | "resource"
        | "instanceof_expression" => names_of_field(parsed, node, "name", locals),
        "inferred_parameters" => {
            for name in node.named_children() {
                add(locals, parsed.node_text(name));
            }
        }
        "lambda_expression" => {
            let lone = node.child_by_field_name("parameters").filter(|one| one.kind() == "identifier");
            if let Some(name) = lone.and_then(first_identifier) {
                add(locals, parsed.node_text(name));
            }
        }
        _ => {}
    }
}
