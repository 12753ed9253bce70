//! Functions of Python.

use crate::Node;

use super::{Parts, add, first_identifier};
use crate::Parsed;

pub(super) fn parts<'tree>(parsed: &Parsed, node: Node<'tree>) -> Option<Parts<'tree>> {
    if node.kind() != "function_definition" {
        return None;
    }
    let body = node.child_by_field_name("body")?;
    let decorated = node.parent().filter(|parent| parent.kind() == "decorated_definition");
    let outer = decorated.unwrap_or(node);
    let in_class = outer
        .parent()
        .and_then(|block| block.parent())
        .is_some_and(|holder| holder.kind() == "class_definition");
    let parameters = python_parameters(parsed, node);
    let takes_self = matches!(parameters.first().map(String::as_str), Some("self" | "cls"));
    Some(Parts {
        name: node.child_by_field_name("name").map_or("", |name| parsed.node_text(name)).to_string(),
        outer,
        start: node.start_byte(),
        body,
        parameters,
        docstring: docstring(parsed, body),
        is_method: in_class || takes_self,
    })
}

fn python_parameters(parsed: &Parsed, function: Node<'_>) -> Vec<String> {
    let mut parameters = Vec::new();
    let Some(list) = function.child_by_field_name("parameters") else { return parameters };
    for parameter in list.named_children() {
        let name = match parameter.kind() {
            "identifier" => Some(parameter),
            "default_parameter" | "typed_default_parameter" => parameter.child_by_field_name("name"),
            "typed_parameter" | "list_splat_pattern" | "dictionary_splat_pattern" => {
                first_identifier(parameter)
            }
            _ => None,
        };
        if let Some(name) = name {
            add(&mut parameters, parsed.node_text(name));
        }
    }
    parameters
}

fn docstring(parsed: &Parsed, body: Node<'_>) -> Option<String> {
    let first = body.named_children().find(|child| child.kind() != "comment")?;
    let string = match first.kind() {
        "expression_statement" => first.named_child(0)?,
        _ => first,
    };
    if string.kind() != "string" {
        return None;
    }
    let children: Vec<Node<'_>> = string.children().collect();
    let (start, end) = (children.first()?, children.last()?);
    if start.kind() != "string_start" || end.kind() != "string_end" || start.id() == end.id() {
        return None;
    }
    parsed.text().get(start.end_byte()..end.start_byte()).map(|content| content.trim().to_string())
}

pub(super) fn bound_names(parsed: &Parsed, node: Node<'_>, locals: &mut Vec<String>) {
    let pattern = match node.kind() {
        "assignment" | "augmented_assignment" | "for_statement" | "for_in_clause" => {
            node.child_by_field_name("left")
        }
        "named_expression" => node.child_by_field_name("name"),
        "as_pattern" => node.child_by_field_name("alias"),
        "import_statement" | "import_from_statement" => {
            for name in node.children_by_field_name("name") {
                // `import a.b` binds `a`, `import a.b as c` binds `c`.
                if let Some(bound) = name.child_by_field_name("alias").or_else(|| name.named_child(0)) {
                    add(locals, parsed.node_text(bound));
                }
            }
            None
        }
        "lambda" => node.child_by_field_name("parameters"),
        _ => None,
    };
    let Some(pattern) = pattern else { return };
    Parsed::walk(pattern, |inner| {
        match inner.kind() {
            "identifier" => add(locals, parsed.node_text(inner)),
            // `object.field = …` and `list[i] = …` bind no name.
            "attribute" | "subscript" | "call" => return false,
            _ => {}
        }
        true
    });
}
