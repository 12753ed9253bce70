//! The analysis of C and C++: `calls` looks at dangerous calls one by one, `memory` follows straight lines. `bounds`,
//! `lengths`, `pointers` and `output` ask a function's `facts`: what its parameters are, what is assigned to its locals,
//! and what its conditions compare. They report what no condition looks at, or looks at from one side only, and stay
//! silent where a call or another expression may have taken care of it.

mod bounds;
mod calls;
mod facts;
mod lengths;
mod memory;
mod output;
mod pointers;

use vul2safe_code::Parsed;
use vul2safe_code::tree_sitter::Node;

use crate::Finding;

/// All findings in a C or C++ text, unordered.
pub(crate) fn analyze(parsed: &Parsed) -> Vec<Finding> {
    let mut findings = Vec::new();
    Parsed::walk(parsed.root(), |node| {
        if node.kind() == "function_definition" {
            let calls = collect_calls(parsed, node);
            calls::check(parsed, node, &calls, &mut findings);
            memory::check(parsed, node, &mut findings);
            if let Some(facts) = facts::Facts::of(parsed, node, &calls) {
                bounds::check(&facts, &mut findings);
                lengths::check(&facts, &mut findings);
                pointers::check(&facts, &mut findings);
                output::check(&facts, &mut findings);
            }
        }
        true
    });
    findings
}

/// A call with its callee's name and arguments.
pub(crate) struct Call<'t> {
    pub node: Node<'t>,
    pub name: &'t str,
    pub arguments: Vec<Node<'t>>,
}

/// The calls of plain functions below a node, in order.
pub(crate) fn collect_calls<'t>(parsed: &'t Parsed, node: Node<'t>) -> Vec<Call<'t>> {
    let mut calls = Vec::new();
    Parsed::walk(node, |inner| {
        if inner.kind() == "call_expression" {
            calls.extend(as_call(parsed, inner));
        }
        true
    });
    calls
}

/// The node as a call of a plain function, `std::` dropped.
pub(crate) fn as_call<'t>(parsed: &'t Parsed, node: Node<'t>) -> Option<Call<'t>> {
    let function = node.child_by_field_name("function")?;
    let name = parsed.node_text(function).trim_start_matches("std::").trim_start_matches("::");
    let list = node.child_by_field_name("arguments")?;
    let mut cursor = list.walk();
    let arguments =
        list.named_children(&mut cursor).filter(|argument| argument.kind() != "comment").collect();
    Some(Call { node, name, arguments })
}

/// An expression without parentheses and casts.
pub(crate) fn bare(mut node: Node<'_>) -> Node<'_> {
    loop {
        let inner = match node.kind() {
            "parenthesized_expression" => node.named_child(0),
            "cast_expression" => node.child_by_field_name("value"),
            _ => None,
        };
        match inner {
            Some(inner) => node = inner,
            None => return node,
        }
    }
}

#[cfg(test)]
mod tests;
