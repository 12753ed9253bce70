//! Pointers that may be null and are never checked, and memory that is freed too early or twice across a loop or
//! through another name.

use std::collections::BTreeMap;

use vul2safe_code::Node;
use vul2safe_code::Parsed;

use super::facts::{Facts, span};
use super::{Call, as_call, bare};
use crate::{Finding, finding};

/// Functions that give `NULL` where there is nothing to find.
const LOOKUPS: &[&str] =
    &["strchr", "strrchr", "strstr", "strpbrk", "strcasestr", "memchr", "memmem", "getenv", "bsearch"];
/// Functions that give `NULL` when memory is short.
const ALLOCATING: &[&str] = &["malloc", "calloc", "realloc"];
/// Functions that follow their string arguments.
const FOLLOWING: &[&str] = &[
    "atoi",
    "atol",
    "atoll",
    "atof",
    "strtol",
    "strtoul",
    "strtoll",
    "strtoull",
    "strtod",
    "strlen",
    "strcmp",
    "strncmp",
    "strcasecmp",
    "strcpy",
    "strncpy",
    "strcat",
    "strncat",
    "strdup",
    "strndup",
    "memcpy",
    "memmove",
    "memset",
    "strspn",
    "strcspn",
    "strchr",
    "strrchr",
    "strstr",
    "puts",
    "fputs",
];

/// The rules whose findings this module makes.
pub(super) const RULES: [&str; 4] =
    ["double-free", "unchecked-allocation", "unchecked-lookup", "use-after-free"];

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    lookups(facts, findings);
    allocations(facts, findings);
    freed_before_end(facts, findings);
    freed_part(facts, findings);
    freed_before_copy(facts, findings);
}

fn is_call_of<'t>(facts: &Facts<'t>, node: Node<'t>, names: &[&str]) -> Option<Call<'t>> {
    let node = bare(node);
    let call = (node.kind() == "call_expression").then(|| as_call(facts.parsed, node)).flatten()?;
    names.contains(&call.name).then_some(call)
}

/// Whether the result is used in a way that needs it not to be null: added to, dereferenced, or given to a function
/// that follows it.
fn is_followed<'t>(facts: &Facts<'t>, node: Node<'t>) -> bool {
    let mut node = node;
    loop {
        let Some(parent) = node.parent() else { return false };
        match parent.kind() {
            "parenthesized_expression" | "cast_expression" | "update_expression" => node = parent,
            "binary_expression" => {
                let operator = parent.child_by_field_name("operator").map_or("", |operator| operator.kind());
                let is_sum = matches!(operator, "+")
                    && parent.child_by_field_name("left").is_some_and(|left| left.id() == node.id());
                if !is_sum {
                    return false;
                }
                node = parent;
            }
            "subscript_expression" | "field_expression" => {
                return parent.child_by_field_name("argument").is_some_and(|inner| inner.id() == node.id());
            }
            "pointer_expression" => return facts.text(parent).starts_with('*'),
            "argument_list" => {
                let call = parent.parent().and_then(|call| as_call(facts.parsed, call));
                return call.is_some_and(|call| FOLLOWING.contains(&call.name));
            }
            _ => return false,
        }
    }
}

fn lookups(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let message = "nothing may be found, and the pointer be NULL";
    for call in facts.calls.iter().filter(|call| LOOKUPS.contains(&call.name)) {
        // The end of a string is always found.
        let always =
            call.arguments.get(1).is_some_and(|sought| matches!(facts.text(bare(*sought)), "'\\0'" | "0"));
        if always {
            continue;
        }
        let added_to = call.node.parent().is_some_and(|parent| {
            let operator = parent.child_by_field_name("operator").map_or("", |operator| operator.kind());
            parent.kind() == "binary_expression"
                && operator == "+"
                && parent.child_by_field_name("left").is_some_and(|left| left.id() == call.node.id())
        });
        if added_to || is_followed(facts, call.node) {
            findings.extend(finding("unchecked-lookup", None, span(call.node), message));
        }
    }
    for (name, local) in &facts.locals {
        if let [(value, _)] = local.values[..]
            && is_call_of(facts, value, LOOKUPS).is_some()
            && let Some(used) = first_followed(facts, name)
            && !facts.is_checked_before(name, used)
        {
            findings.extend(finding("unchecked-lookup", None, span(used), message));
        }
    }
}

/// The first place where the name is followed.
fn first_followed<'t>(facts: &Facts<'t>, name: &str) -> Option<Node<'t>> {
    let mut found = None;
    Parsed::walk(facts.body, |node| {
        if found.is_none()
            && node.kind() == "identifier"
            && facts.text(node) == name
            && is_followed(facts, node)
        {
            found = Some(node);
        }
        found.is_none()
    });
    found
}

/// An allocation that is followed within a loop before any condition looks at it. (Straight lines are the
/// matter of `memory`.)
fn allocations(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for (name, local) in &facts.locals {
        let [(value, _)] = local.values[..] else { continue };
        if is_call_of(facts, value, ALLOCATING).is_none() {
            continue;
        }
        // Another name for the same block, under which it may be followed and checked as well.
        let same: Vec<&str> = facts
            .locals
            .iter()
            .filter(|(_, other)| {
                other.values.first().is_some_and(|(value, _)| facts.text(bare(*value)) == *name)
            })
            .map(|(other, _)| *other)
            .collect();
        let names: Vec<&str> = std::iter::once(*name).chain(same).collect();
        let used = names.iter().filter_map(|name| first_followed(facts, name)).min_by_key(Node::start_byte);
        let is_checked = |used: Node<'_>| names.iter().any(|name| facts.is_checked_before(name, used));
        if let Some(used) = used.filter(|used| is_in_loop(facts, *used) && !is_checked(*used)) {
            findings.extend(finding("unchecked-allocation", None, span(used), "the pointer may be NULL"));
        }
    }
}

fn is_in_loop<'t>(facts: &Facts<'t>, node: Node<'t>) -> bool {
    let mut outer = node.parent();
    while let Some(parent) = outer.filter(|parent| parent.id() != facts.body.id()) {
        match parent.kind() {
            "for_statement" | "while_statement" | "do_statement" => return true,
            "if_statement" | "switch_statement" => return false,
            _ => outer = parent.parent(),
        }
    }
    false
}

/// The pointer that a statement `free(pointer);` frees.
fn freed<'t>(facts: &Facts<'t>, statement: Node<'t>) -> Option<Node<'t>> {
    let call = statement.named_child(0).filter(|_| statement.kind() == "expression_statement")?;
    let call = is_call_of(facts, call, &["free", "kfree", "g_free", "xfree"])?;
    call.arguments.first().map(|pointer| bare(*pointer))
}

/// `free(p); break;` within a loop, and `free(p)` again behind it.
fn freed_before_end(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for call in facts.calls.iter().filter(|call| call.name == "free") {
        let Some(statement) = call.node.parent() else { continue };
        let (Some(pointer), Some(block)) = (freed(facts, statement), statement.parent()) else { continue };
        if pointer.kind() != "identifier" || block.kind() != "compound_statement" {
            continue;
        }
        let name = facts.text(pointer);
        let rest: Vec<Node<'_>> =
            block.named_children().filter(|other| other.start_byte() >= statement.end_byte()).collect();
        let leaves =
            rest.last().is_some_and(|last| matches!(last.kind(), "break_statement" | "continue_statement"));
        let sets = |node: Node<'_>| {
            let mut set = false;
            Parsed::walk(node, |inner| {
                set |= inner.kind() == "assignment_expression"
                    && inner.child_by_field_name("left").is_some_and(|left| facts.text(left) == name);
                !set
            });
            set
        };
        if !leaves || rest.iter().any(|statement| sets(*statement)) {
            continue;
        }
        let Some(of_loop) = enclosing_loop(block) else { continue };
        let mut after = of_loop.next_named_sibling();
        while let Some(statement) = after.filter(|statement| !sets(*statement)) {
            if freed(facts, statement).is_some_and(|again| facts.text(again) == name) {
                findings.extend(finding(
                    "double-free",
                    None,
                    span(call.node),
                    "the memory is freed again behind the loop",
                ));
                break;
            }
            after = statement.next_named_sibling();
        }
    }
}

/// `part = strtok(copy, …)`, `free(part)`, and behind it `free(copy)`: where the part is the first one, both are the
/// same block, and otherwise the part is none.
fn freed_part(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    const PARTS: &[&str] = &["strtok", "strchr", "strrchr", "strstr"];
    let frees = || facts.calls.iter().filter(|call| call.name == "free");
    for call in frees() {
        let Some(local) = facts.locals.get(first_argument(facts, call)) else { continue };
        let wholes: Option<Vec<&str>> = local
            .values
            .iter()
            .map(|(value, _)| {
                let part = is_call_of(facts, *value, PARTS)?;
                part.arguments.first().map(|whole| facts.text(bare(*whole)))
            })
            .collect();
        let again = wholes.is_some_and(|wholes| {
            frees().any(|other| {
                other.node.start_byte() > call.node.end_byte()
                    && wholes.contains(&first_argument(facts, other))
            })
        });
        if again {
            let message = "this is a part of a block that is freed as a whole";
            findings.extend(finding("double-free", None, span(call.node), message));
        }
    }
}

fn first_argument<'t>(facts: &Facts<'t>, call: &Call<'t>) -> &'t str {
    call.arguments.first().map_or("", |argument| facts.text(bare(*argument)))
}

/// The innermost loop, unless a `switch` is nearer, which a `break` would leave.
fn enclosing_loop(node: Node<'_>) -> Option<Node<'_>> {
    let mut outer = node.parent();
    while let Some(parent) = outer {
        match parent.kind() {
            "for_statement" | "while_statement" | "do_statement" => return Some(parent),
            "switch_statement" | "function_definition" => return None,
            _ => outer = parent.parent(),
        }
    }
    None
}

/// `free(*slot); *slot = strdup(text);` where both are the caller's: `text` may be the old value or a part of it.
fn freed_before_copy(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    const COPIES: &[&str] = &["strdup", "strndup"];
    let slots: BTreeMap<&str, String> = facts
        .parameters
        .iter()
        .filter(|parameter| parameter.pointers == 2)
        .map(|parameter| (parameter.name, format!("*{}", parameter.name)))
        .collect();
    for call in facts.calls.iter().filter(|call| COPIES.contains(&call.name)) {
        let Some(text) = call.arguments.first().map(|text| facts.text(bare(*text))) else { continue };
        let is_callers = facts.parameter(text).is_some_and(|parameter| parameter.pointers == 1);
        let target = call.node.parent().filter(|parent| parent.kind() == "assignment_expression");
        let target = target.and_then(|assignment| assignment.child_by_field_name("left"));
        let slot = target
            .and_then(|target| slots.iter().find(|(_, written)| facts.text(target) == written.as_str()));
        let Some((slot, written)) = slot.filter(|_| is_callers) else { continue };
        let is_old = |pointer: &str| {
            pointer == written
                || facts.locals.get(pointer).is_some_and(|local| {
                    local.values.first().is_some_and(|(value, _)| facts.text(*value) == written.as_str())
                })
        };
        let early = facts.calls.iter().any(|other| {
            other.name == "free"
                && other.node.end_byte() <= call.node.start_byte()
                && other.arguments.first().is_some_and(|pointer| is_old(facts.text(bare(*pointer))))
        });
        let compared = facts.comparisons.iter().any(|comparison| {
            let names = [comparison.left, comparison.right].map(|side| facts.names(side));
            names.iter().any(|side| side.contains(text)) && names.iter().any(|side| side.contains(slot))
        });
        if early && !compared {
            findings.extend(finding(
                "use-after-free",
                Some(vul2safe_code::Severity::Medium),
                span(call.node),
                "the text may be a part of what was freed before",
            ));
        }
    }
}
