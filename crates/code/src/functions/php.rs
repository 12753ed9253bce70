//! Functions and methods of PHP. Names of variables stand without their dollar sign.

use crate::Node;

use super::{Parts, add, named_parts};
use crate::Parsed;

pub(super) fn parts<'tree>(parsed: &Parsed, node: Node<'tree>) -> Option<Parts<'tree>> {
    let is_method = match node.kind() {
        "function_definition" => false,
        "method_declaration" => true,
        _ => return None,
    };
    let mut parameters = Vec::new();
    if let Some(list) = node.child_by_field_name("parameters") {
        for parameter in list.named_children() {
            if let Some(name) = parameter.child_by_field_name("name") {
                variables(parsed, name, &mut parameters);
            }
        }
    }
    named_parts(parsed, node, parameters, is_method)
}

/// The variables in a pattern that is assigned to.
fn variables(parsed: &Parsed, pattern: Node<'_>, names: &mut Vec<String>) {
    Parsed::walk(pattern, |node| {
        match node.kind() {
            "variable_name" => add(names, parsed.node_text(node).trim_start_matches('$')),
            // `$object->field = …` and `$list[$i] = …` bind no name.
            "member_access_expression" | "subscript_expression" | "scoped_property_access_expression" => {
                return false;
            }
            _ => {}
        }
        true
    });
}

pub(super) fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    let field = match node.kind() {
        "assignment_expression" | "reference_assignment_expression" | "augmented_assignment_expression" => {
            "left"
        }
        "catch_clause"
        | "static_variable_declaration"
        | "simple_parameter"
        | "variadic_parameter"
        | "property_promotion_parameter" => "name",
        "global_declaration" => return variables(parsed, node, locals),
        "foreach_statement" => {
            // The first child is what is gone through.
            let body = node.child_by_field_name("body").map(|body| body.id());
            for bound in node.named_children().skip(1).filter(|child| Some(child.id()) != body) {
                variables(parsed, bound, locals);
            }
            return;
        }
        _ => return,
    };
    if let Some(pattern) = node.child_by_field_name(field) {
        variables(parsed, pattern, locals);
    }
}
