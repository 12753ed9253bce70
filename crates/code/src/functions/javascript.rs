//! Functions of JavaScript, under the name they are declared with or assigned to.

use crate::Node;

use super::{Parts, add, comment_above};
use crate::Parsed;

pub(super) fn parts<'tree>(parsed: &Parsed, node: Node<'tree>) -> Option<Parts<'tree>> {
    let (name, outer, is_method) = match node.kind() {
        "function_declaration" | "generator_function_declaration" => {
            (parsed.node_text(node.child_by_field_name("name")?), exported(node), false)
        }
        "method_definition" => (parsed.node_text(node.child_by_field_name("name")?), node, true),
        "function_expression" | "generator_function" | "arrow_function" => assigned_to(parsed, node)?,
        _ => return None,
    };
    let mut parameters = Vec::new();
    // `x => …` has one parameter without parentheses.
    let list = node.child_by_field_name("parameters").or_else(|| node.child_by_field_name("parameter"));
    if let Some(list) = list {
        pattern_names(parsed, list, &mut parameters);
    }
    Some(Parts {
        name: name.trim_matches(['"', '\'']).to_string(),
        outer,
        start: outer.start_byte(),
        body: node.child_by_field_name("body")?,
        parameters,
        docstring: comment_above(parsed, outer),
        is_method,
    })
}

/// `const find = …`, `exports.find = …`, `find: …` and `find = …` in a class: the name, the node that holds all of it, and
/// whether that makes it a method. A function that is handed on without a name is part of what stands around it.
fn assigned_to<'text, 'tree>(
    parsed: &'text Parsed,
    function: Node<'tree>,
) -> Option<(&'text str, Node<'tree>, bool)> {
    let holder = function.parent()?;
    match holder.kind() {
        "variable_declarator" => {
            let name = holder.child_by_field_name("name")?;
            let declaration = holder.parent().filter(|declaration| declaration.named_child_count() == 1);
            Some((parsed.node_text(name), exported(declaration.unwrap_or(holder)), false))
        }
        "assignment_expression" => {
            let name = parsed.node_text(holder.child_by_field_name("left")?);
            let statement = holder.parent().filter(|statement| statement.kind() == "expression_statement");
            let last = name.rsplit('.').next().unwrap_or(name);
            Some((last, statement.unwrap_or(holder), name.contains(".prototype.")))
        }
        "pair" => Some((parsed.node_text(holder.child_by_field_name("key")?), holder, true)),
        "field_definition" => Some((parsed.node_text(holder.child_by_field_name("property")?), holder, true)),
        _ => None,
    }
}

fn exported(declaration: Node<'_>) -> Node<'_> {
    declaration.parent().filter(|parent| parent.kind() == "export_statement").unwrap_or(declaration)
}

/// The names that a pattern (or a list of parameters) binds, defaults left out.
fn pattern_names(parsed: &Parsed, pattern: Node<'_>, names: &mut Vec<String>) {
    let mut defaults: Vec<std::ops::Range<usize>> = Vec::new();
    Parsed::walk(pattern, |node| {
        if defaults.iter().any(|range| range.contains(&node.start_byte())) {
            return false;
        }
        match node.kind() {
            "identifier" | "shorthand_property_identifier_pattern" => add(names, parsed.node_text(node)),
            "assignment_pattern" | "object_assignment_pattern" => {
                defaults.extend(node.child_by_field_name("right").map(|right| right.byte_range()));
            }
            // `object.field = …` and `list[i] = …` bind no name.
            "member_expression" | "subscript_expression" | "computed_property_name" => return false,
            _ => {}
        }
        true
    });
}

pub(super) fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    let field = match node.kind() {
        "variable_declarator" => "name",
        "formal_parameters" => return pattern_names(parsed, node, locals),
        "for_in_statement" => "left",
        "catch_clause" | "arrow_function" => "parameter",
        _ => return,
    };
    if let Some(pattern) = node.child_by_field_name(field) {
        pattern_names(parsed, pattern, locals);
    }
}
