//! Functions and methods of Go.

use crate::Node;

use super::{Parts, add, named_parts, names_of_field};
use crate::Parsed;

pub(super) fn parts<'tree>(parsed: &Parsed, node: Node<'tree>) -> Option<Parts<'tree>> {
    let is_method = match node.kind() {
        "function_declaration" => false,
        "method_declaration" => true,
        _ => return None,
    };
    let mut parameters = Vec::new();
    if let Some(list) = node.child_by_field_name("parameters") {
        for declaration in list.named_children() {
            names_of_field(parsed, declaration, "name", &mut parameters);
        }
    }
    named_parts(parsed, node, parameters, is_method)
}

/// The names of the receiver and of the results, which stand in the signature and are no parameters.
pub(super) fn names_beside_parameters(parsed: &Parsed, function: Node<'_>, locals: &mut Vec<String>) {
    for field in ["receiver", "result"] {
        let Some(list) = function.child_by_field_name(field).filter(|list| list.kind() == "parameter_list")
        else {
            continue;
        };
        for declaration in list.named_children() {
            names_of_field(parsed, declaration, "name", locals);
        }
    }
}

pub(super) fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    match node.kind() {
        "var_spec" | "const_spec" | "parameter_declaration" | "variadic_parameter_declaration" => {
            names_of_field(parsed, node, "name", locals);
        }
        "short_var_declaration" | "range_clause" | "type_switch_statement" => {
            let field = if node.kind() == "type_switch_statement" { "alias" } else { "left" };
            let Some(list) = node.child_by_field_name(field) else { return };
            for name in list.named_children().filter(|name| name.kind() == "identifier") {
                add(locals, parsed.node_text(name));
            }
        }
        _ => {}
    }
}
