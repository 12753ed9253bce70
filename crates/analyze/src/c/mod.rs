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

use vul2safe_code::{Cwe, Node, Parsed};

use crate::{Finding, rules};

/// Findings in a C or C++ text, unordered: those of the `wanted` weaknesses, and others that are found with them.
pub(crate) fn analyze(parsed: &Parsed, wanted: &dyn Fn(Cwe) -> bool) -> Vec<Finding> {
    let any = |ids: &[&str]| ids.iter().filter_map(|id| rules::by_id(id)).any(|rule| wanted(rule.cwe));
    let of_calls = any(&calls::RULES);
    let of_memory = any(&memory::RULES);
    let of_facts: Vec<FactCheck> =
        FACT_CHECKS.iter().filter(|(ids, _)| any(ids)).map(|(_, check)| *check).collect();
    let mut findings = Vec::new();
    if !of_calls && !of_memory && of_facts.is_empty() {
        return findings;
    }
    Parsed::walk(parsed.root(), |node| {
        if node.kind() == "function_definition" {
            let calls =
                if of_calls || !of_facts.is_empty() { collect_calls(parsed, node) } else { Vec::new() };
            if of_calls {
                calls::check(parsed, node, &calls, &mut findings);
            }
            if of_memory {
                memory::check(parsed, node, &mut findings);
            }
            if !of_facts.is_empty()
                && let Some(facts) = facts::Facts::of(parsed, node, &calls)
            {
                of_facts.iter().for_each(|check| check(&facts, &mut findings));
            }
        }
        true
    });
    findings
}

/// A check that asks the facts of a function.
type FactCheck = fn(&facts::Facts<'_>, &mut Vec<Finding>);

/// Those checks with the rules whose findings they make.
const FACT_CHECKS: [(&[&str], FactCheck); 4] = [
    (&bounds::RULES, bounds::check),
    (&lengths::RULES, lengths::check),
    (&pointers::RULES, pointers::check),
    (&output::RULES, output::check),
];

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
    let arguments = list.named_children().filter(|argument| argument.kind() != "comment").collect();
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
