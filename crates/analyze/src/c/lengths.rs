//! Numbers that become lengths and sizes: products that wrap around, lengths with a sign, lengths that the data
//! itself tells, and divisors that are the number of elements.

use vul2safe_code::Node;
use vul2safe_code::Parsed;

use super::bare;
use super::bounds::COPYING;
use super::facts::{Facts, is_narrow_type, is_unsigned_type, number, span};
use crate::{Finding, finding};

/// The rules whose findings this module makes.
pub(super) const RULES: [&str; 4] = ["division-by-count", "signed-length", "size-product", "told-length"];

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    products(facts, findings);
    signed_lengths(facts, findings);
    told_lengths(facts, findings);
    empty_means(facts, findings);
}

/// `malloc(rows * columns)` of two 32-bit numbers, whether in the call or in a variable on the way to it.
fn products(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    const ALLOCATING: &[&str] =
        &["malloc", "realloc", "calloc", "alloca", "kmalloc", "kzalloc", "xmalloc", "g_malloc"];
    let is_narrow = |node: Node<'_>| {
        node.kind() == "identifier"
            && facts
                .parameter(facts.text(node))
                .is_some_and(|parameter| parameter.pointers == 0 && is_narrow_type(parameter.kind))
    };
    for call in facts.calls.iter().filter(|call| ALLOCATING.contains(&call.name)) {
        for argument in &call.arguments {
            let mut size = bare(*argument);
            if let Some(local) = facts.locals.get(facts.text(size))
                && let [(value, _)] = local.values[..]
            {
                size = value;
            }
            // A cast of the whole comes too late, one of a factor in time.
            let product = bare(size);
            let (Some(left), Some(right)) =
                (product.child_by_field_name("left"), product.child_by_field_name("right"))
            else {
                continue;
            };
            let is_product =
                product.child_by_field_name("operator").is_some_and(|operator| operator.kind() == "*");
            if !is_product || !is_narrow(left) || !is_narrow(right) {
                continue;
            }
            let factors = [facts.text(left), facts.text(right)];
            let divided = facts.comparisons.iter().any(|comparison| {
                let texts = [comparison.left, comparison.right].map(|side| facts.text(side));
                texts.iter().any(|text| text.contains('/'))
                    && factors.iter().all(|factor| texts.iter().any(|text| text.contains(factor)))
            });
            // Held against a limit, each factor by itself, they may be small.
            let limited = factors.iter().all(|factor| {
                facts.comparisons_of(factor).any(|(operator, other, _, comparison)| {
                    operator != "!="
                        && number(facts.text(bare(other))) != Some(0)
                        && comparison.of_loop.is_none()
                })
            });
            if !divided && !limited {
                findings.extend(finding(
                    "size-product",
                    None,
                    span(product),
                    "the product may wrap around, and the memory be too small",
                ));
            }
        }
    }
}

/// `if (length > size) return; memcpy(out, data, length)` with a length that may be negative.
fn signed_lengths(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for call in facts.calls.iter().filter(|call| COPYING.contains(&call.name)) {
        let Some(length) = call.arguments.get(2).map(|length| bare(*length)) else { continue };
        let name = facts.text(length);
        let is_signed = facts.parameter(name).is_some_and(|parameter| {
            parameter.pointers == 0 && is_narrow_type(parameter.kind) && !is_unsigned_type(parameter.kind)
        });
        if length.kind() != "identifier" || !is_signed || facts.locals.contains_key(name) {
            continue;
        }
        // Somebody thought of its size, be it by way of a difference, and not of its sign.
        let (mut upper, mut lower) = (false, false);
        for (_, other, written, _) in facts.comparisons_of(name) {
            let text = facts.text(bare(other));
            let is_low = text.starts_with('-') || matches!(number(text), Some(0 | 1));
            let kind = written.child_by_field_name("type").map_or("", |kind| facts.text(kind));
            lower |= is_low || is_unsigned_type(kind) || is_unsigned_operand(facts, other);
            upper |= !is_low;
        }
        upper |= facts.comparisons.iter().any(|comparison| {
            [comparison.left, comparison.right].iter().any(|side| {
                let is_local =
                    facts.locals.get(facts.text(bare(*side))).is_some_and(|local| local.values.len() == 1);
                is_local && facts.words_through(*side).contains(name)
            })
        });
        if upper && !lower {
            findings.extend(finding(
                "signed-length",
                None,
                span(call.node),
                "a negative length passes the check and is a very large one here",
            ));
        }
    }
}

/// Whether a comparison with this makes the other side unsigned.
fn is_unsigned_operand<'t>(facts: &Facts<'t>, node: Node<'t>) -> bool {
    let text = facts.text(node);
    text.contains("sizeof") || facts.names(node).iter().any(|name| facts.is_unsigned(name))
}

/// `size_t count = data[0]; memcpy(out, data + 1, count)` where the number of bytes in `data` is given, and the count
/// is not held against it.
fn told_lengths(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for data in facts.parameters.iter().filter(|parameter| parameter.pointers == 1 && parameter.constant) {
        let Some(length) = facts.size_of(data.name) else { continue };
        for (name, local) in &facts.locals {
            let [(value, declarator), ..] = local.values[..] else { continue };
            if !local.array && local.pointers == 0 && reads_through(facts, value, data.name) {
                let head = facts.calls.iter().find_map(|call| copied_from(facts, call, name, data.name));
                let head = head.or_else(|| loop_from(facts, name, data.name));
                if let Some(head) = head
                    && !is_held_against(facts, name, data.name, length.name, head)
                {
                    findings.extend(finding(
                        "told-length",
                        None,
                        span(declarator),
                        "the data says how long it is, and may say too much",
                    ));
                }
            }
        }
    }
}

/// Whether a value is an element of the array, be it by way of another pointer.
fn reads_through<'t>(facts: &Facts<'t>, value: Node<'t>, data: &str) -> bool {
    let value = bare(value);
    let pointer = match value.kind() {
        "subscript_expression" | "pointer_expression" => value.child_by_field_name("argument"),
        _ => None,
    };
    pointer.is_some_and(|pointer| facts.words_through(pointer).contains(data))
        && (value.kind() != "pointer_expression" || facts.text(value).starts_with('*'))
}

/// The offset in `memcpy(…, data + OFFSET, name)` or `printf("%.*s", name, data + OFFSET)`.
fn copied_from<'t>(facts: &Facts<'t>, call: &super::Call<'t>, name: &str, data: &str) -> Option<i64> {
    let is_length = |node: &Node<'t>| facts.text(bare(*node)) == name;
    let source = if COPYING.contains(&call.name) && call.name != "memset" {
        call.arguments.get(1).filter(|_| call.arguments.get(2).is_some_and(is_length))
    } else {
        let has_precision = call.arguments.iter().any(|argument| facts.text(*argument).contains("%.*s"));
        let at = call.arguments.iter().position(is_length);
        at.filter(|_| has_precision).and_then(|at| call.arguments.get(at + 1))
    }?;
    facts.names(*source).contains(data).then(|| offset(facts, *source))
}

/// The offset in `for (…; i < name; …) … data[OFFSET + i]`.
fn loop_from(facts: &Facts<'_>, name: &str, data: &str) -> Option<i64> {
    let (_, counter, _, comparison) = facts
        .comparisons_of(name)
        .find(|(operator, _, _, comparison)| *operator == ">" && comparison.of_loop.is_some())?;
    let counter = facts.text(bare(counter));
    let mut found = None;
    Parsed::walk(comparison.of_loop?, |node| {
        if node.kind() == "subscript_expression"
            && node.child_by_field_name("argument").is_some_and(|array| facts.text(bare(array)) == data)
            && facts.names(node).contains(counter)
        {
            found = Some(offset(facts, node));
        }
        found.is_none()
    });
    found
}

/// The largest number in an expression, which is taken as what is skipped.
fn offset<'t>(facts: &Facts<'t>, node: Node<'t>) -> i64 {
    let mut largest = 0;
    Parsed::walk(node, |inner| {
        if inner.kind() == "number_literal" {
            largest = largest.max(number(facts.text(inner)).unwrap_or(0));
        }
        true
    });
    largest
}

/// Whether the count, or the byte that it comes from, is compared with the length, with what is skipped taken into
/// account.
fn is_held_against(facts: &Facts<'_>, name: &str, data: &str, length: &str, head: i64) -> bool {
    facts.comparisons.iter().any(|comparison| {
        let mentions_count = [comparison.left, comparison.right]
            .iter()
            .any(|side| facts.names(*side).contains(name) || reads_through(facts, *side, data));
        let words: std::collections::HashSet<&str> = [comparison.left, comparison.right]
            .iter()
            .filter(|side| facts.text(bare(**side)) != name && !reads_through(facts, **side, data))
            .flat_map(|side| facts.words_through(*side))
            .collect();
        let written = words.iter().any(|word| number(word).is_some_and(|number| number >= head));
        mentions_count && words.contains(length) && (head == 0 || written)
    })
}

/// A sum over `count` elements divided by `count`, which may be 0.
fn empty_means(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    Parsed::walk(facts.body, |node| {
        if !matches!(node.kind(), "binary_expression" | "assignment_expression") {
            return true;
        }
        let operator = node.child_by_field_name("operator").map_or("", |operator| facts.text(operator));
        let divides = matches!(
            (node.kind(), operator),
            ("binary_expression", "/" | "%") | ("assignment_expression", "/=" | "%=")
        );
        if divides
            && let Some(divisor) = node.child_by_field_name("right").map(bare)
            && divisor.kind() == "identifier"
            && is_number_of_turns(facts, facts.text(divisor))
            && !is_branched_on(facts, facts.text(divisor), divisor)
        {
            findings.extend(finding(
                "division-by-count",
                None,
                span(node),
                "the count may be 0, and nothing can be divided by it",
            ));
        }
        true
    });
}

/// A parameter that a loop runs up to, or a local that starts at 0 and counts the turns of a loop.
fn is_number_of_turns(facts: &Facts<'_>, name: &str) -> bool {
    let in_loop_head = facts.comparisons_of(name).any(|(_, _, _, comparison)| comparison.of_loop.is_some());
    match facts.locals.get(name) {
        None => in_loop_head && facts.parameter(name).is_some_and(|parameter| parameter.pointers == 0),
        Some(local) => {
            let from_zero = matches!(local.values[..], [(value, _)] if number(facts.text(value)) == Some(0));
            in_loop_head && from_zero && local.stepped
        }
    }
}

/// Whether a condition before `place`, other than the head of a loop, may keep the name from being 0 there. A comparison for being
/// (un)equal to another number does not.
fn is_branched_on<'t>(facts: &Facts<'t>, name: &str, place: Node<'t>) -> bool {
    facts.conditions.iter().any(|condition| {
        let of_loop = condition.parent().is_some_and(|parent| {
            matches!(parent.kind(), "for_statement" | "while_statement" | "do_statement")
        });
        let mut comparisons = facts
            .comparisons_of(name)
            .filter(|(_, _, written, _)| condition.byte_range().contains(&written.start_byte()))
            .peekable();
        let beside_the_point = comparisons.peek().is_some()
            && comparisons.all(|(operator, other, _, _)| {
                let other = number(facts.text(bare(other)));
                matches!(operator, "==" | "!=") && other.is_some_and(|number| number != 0)
            });
        let mentions = !of_loop && facts.names(*condition).contains(name);
        mentions && !beside_the_point && facts.may_precede(condition.start_byte(), place)
    })
}
