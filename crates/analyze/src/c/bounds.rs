//! Reads and writes past the ends: indices of the caller's that are not checked at both ends, sizes of buffers that
//! nobody looks at, and the one element too many.

use std::collections::HashMap;

use vul2safe_code::Node;
use vul2safe_code::Parsed;

use super::facts::{Facts, is_unsigned_type, number, span};
use super::{Call, bare};
use crate::{Finding, finding};

/// The rules whose findings this module makes.
pub(super) const RULES: [&str; 4] = ["index-read", "index-write", "unbounded-copy", "wrapping-bound"];

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    let ignored = ignored_size(facts);
    findings.extend(ignored.clone());
    let mut found = Vec::new();
    Parsed::walk(facts.body, |node| {
        if node.kind() == "subscript_expression" {
            found.extend(subscript(facts, node));
        }
        found.extend(wrapping_bound(facts, node));
        true
    });
    // What follows from a size that nobody looks at is said once.
    found.retain(|other: &Finding| ignored.as_ref().is_none_or(|first| !first.span.overlaps(other.span)));
    findings.append(&mut found);
    for call in facts.calls {
        findings.extend(wrong_bound(facts, call).or_else(|| address_as_bound(facts, call)));
    }
}

/// The index of a subscript.
fn index_of(node: Node<'_>) -> Option<Node<'_>> {
    node.child_by_field_name("index")
        .or_else(|| node.child_by_field_name("indices").and_then(|list| list.named_child(0)))
}

fn is_written(node: Node<'_>) -> bool {
    let mut node = node;
    while let Some(parent) = node.parent().filter(|parent| parent.kind() == "parenthesized_expression") {
        node = parent;
    }
    node.parent().is_some_and(|parent| match parent.kind() {
        "assignment_expression" => {
            parent.child_by_field_name("left").is_some_and(|left| left.id() == node.id())
        }
        "update_expression" => true,
        _ => false,
    })
}

/// How many elements an array has: a number, or the parameter that says so.
enum Extent<'t> {
    Known(i64),
    Parameter(&'t str),
}

fn extent<'t>(facts: &Facts<'t>, array: Node<'t>) -> Option<Extent<'t>> {
    let name = facts.text(bare(array));
    if let Some(local) = facts.locals.get(name).filter(|local| local.array) {
        return local.elements.and_then(|elements| i64::try_from(elements).ok()).map(Extent::Known);
    }
    facts.size_of(name).map(|size| Extent::Parameter(size.name))
}

fn subscript<'t>(facts: &Facts<'t>, node: Node<'t>) -> Option<Finding> {
    let extent = extent(facts, node.child_by_field_name("argument")?)?;
    let index = bare(index_of(node)?);
    if !is_sum(facts, index) {
        return None;
    }
    let [name] = facts.names(index).into_iter().collect::<Vec<_>>()[..] else { return None };
    if matches!(extent, Extent::Parameter(size) if size == name) {
        return None;
    }
    let rule = || if is_written(node) { "index-write" } else { "index-read" };
    let one_too_many = index.kind() == "identifier"
        && (allows_extent(facts, name, &extent)
            || runs_to_extent(facts, name, &extent)
            || after_loop(facts, node, name, &extent));
    if one_too_many {
        return finding(rule(), None, span(node), "the index may be that of the element after the last");
    }
    if !comes_from_caller(facts, name) {
        return None;
    }
    let message = match ends_checked(facts, name) {
        (true, true) => return None,
        (false, false) => "the index is the caller's, and nobody looks at it",
        (true, false) => "the index has a sign and may be negative",
        (false, true) => "the index may lie past the end",
    };
    finding(rule(), None, span(node), message)
}

/// Whether an expression is made of names and numbers by plus and minus: a remainder, a mask or a call may keep it
/// within bounds.
fn is_sum<'t>(facts: &Facts<'t>, node: Node<'t>) -> bool {
    let mut sum = true;
    Parsed::walk(node, |inner| {
        sum &= match inner.kind() {
            "binary_expression" => inner
                .child_by_field_name("operator")
                .is_some_and(|operator| matches!(facts.text(operator), "+" | "-")),
            "identifier" | "number_literal" | "parenthesized_expression" | "+" | "-" | "(" | ")" => true,
            "cast_expression" => true,
            // Below a cast stands the name of its type.
            kind => kind.contains("type") || matches!(kind, "unsigned" | "long" | "short" | "signed"),
        };
        sum
    });
    sum
}

/// A parameter that is not changed, or a local that is set once and from such parameters.
fn comes_from_caller(facts: &Facts<'_>, name: &str) -> bool {
    let is_given = |name: &str| {
        facts.parameter(name).is_some_and(|parameter| parameter.pointers == 0)
            && !facts.locals.contains_key(name)
    };
    let Some(local) = facts.locals.get(name) else { return is_given(name) };
    let [(value, _)] = local.values[..] else { return false };
    let plain = !local.stepped && local.pointers == 0 && !local.array && facts.parameter(name).is_none();
    let names = facts.names(value);
    plain && is_sum(facts, value) && !names.is_empty() && names.into_iter().all(is_given)
}

/// Whether a variable is held against something from above, and from below. A variable that is handed to another
/// function may have been checked there.
fn ends_checked(facts: &Facts<'_>, name: &str) -> (bool, bool) {
    let handed_on = |argument: &Node<'_>| facts.names(*argument).contains(name);
    if facts.calls.iter().any(|call| call.arguments.iter().any(handed_on)) {
        return (true, true);
    }
    let (mut upper, mut lower) = (false, facts.is_unsigned(name));
    for (operator, other, written, _) in facts.comparisons_of(name) {
        let text = facts.text(bare(other));
        let is_low = text.starts_with('-') || number(text) == Some(0);
        match operator {
            "!=" => {}
            _ if is_low => lower = true,
            "==" => (upper, lower) = (true, true),
            _ => {
                upper = true;
                // `(unsigned) i < n` takes care of both ends.
                let kind = written.child_by_field_name("type").map_or("", |kind| facts.text(kind));
                lower |= written.kind() == "cast_expression" && is_unsigned_type(kind);
            }
        }
    }
    (upper, lower)
}

fn is_border(facts: &Facts<'_>, limit: &str, extent: &Extent<'_>) -> bool {
    match extent {
        Extent::Known(elements) => number(limit) == Some(*elements),
        Extent::Parameter(size) => limit == *size && facts.parameter(size).is_some(),
    }
}

/// `i <= size`, or a way out only for `i > size`: the index may be the size itself.
fn allows_extent(facts: &Facts<'_>, name: &str, extent: &Extent<'_>) -> bool {
    facts.comparisons_of(name).any(|(operator, other, written, _)| {
        is_border(facts, facts.text(bare(other)), extent)
            && matches!(operator, "<=" | ">")
            && written.kind() == "identifier"
    })
}

/// `for (…; i <= length; …)` where `length` may be the size itself.
fn runs_to_extent(facts: &Facts<'_>, name: &str, extent: &Extent<'_>) -> bool {
    facts.comparisons_of(name).any(|(operator, other, _, comparison)| {
        let last = bare(other);
        operator == "<="
            && comparison.of_loop.is_some()
            && last.kind() == "identifier"
            && allows_extent(facts, facts.text(last), extent)
    })
}

/// `for (…; i < size && …; …) …` and then `out[i]`: the loop may have ended because of the size.
fn after_loop<'t>(facts: &Facts<'t>, node: Node<'t>, name: &str, extent: &Extent<'t>) -> bool {
    if !facts.locals.get(name).is_some_and(|local| local.stepped) {
        return false;
    }
    // Only in the block of the loop itself: a branch around the write may be a check.
    let mut statement = node;
    while let Some(parent) = statement.parent().filter(|parent| parent.kind().ends_with("_expression")) {
        statement = parent;
    }
    let block = statement.parent().and_then(|statement| statement.parent());
    facts.comparisons_of(name).any(|(operator, other, _, comparison)| {
        let Some(of_loop) = comparison.of_loop else { return false };
        let since = of_loop.end_byte()..node.start_byte();
        let checked_since =
            facts.comparisons_of(name).any(|(_, _, written, _)| since.contains(&written.start_byte()));
        operator == "<"
            && is_border(facts, facts.text(bare(other)), extent)
            && !since.is_empty()
            && block.is_some_and(|block| of_loop.parent().is_some_and(|parent| parent.id() == block.id()))
            && !checked_since
    })
}

/// Functions that write as many bytes to their first argument as their third says.
pub(crate) const COPYING: &[&str] = &["memcpy", "memmove", "memset", "mempcpy", "strncpy", "bcopy"];

/// A buffer of the caller's that is written before anything looks at its size, which is the next parameter.
fn ignored_size(facts: &Facts<'_>) -> Option<Finding> {
    let mut mentioned: HashMap<&str, Vec<usize>> = HashMap::new();
    Parsed::walk(facts.body, |node| {
        if node.kind() == "identifier" {
            mentioned.entry(facts.text(node)).or_default().push(node.start_byte());
        }
        true
    });
    let buffers: HashMap<&str, &str> = facts
        .parameters
        .iter()
        .filter(|parameter| parameter.pointers == 1 && !parameter.constant)
        .filter_map(|parameter| Some((parameter.name, facts.size_of(parameter.name)?.name)))
        .collect();
    if buffers.is_empty() {
        return None;
    }
    // Within the statement as well: `i < size && (out[i] = …)`, `memcpy(out, text, size)`.
    let is_ignored = |buffer: Node<'_>, place: Node<'_>| {
        let Some(size) = buffers.get(facts.text(bare(buffer))) else { return false };
        let mut whole = place;
        while let Some(parent) = whole.parent().filter(|parent| parent.kind().ends_with("_expression")) {
            whole = parent;
        }
        let seen = mentioned.get(size).is_some_and(|starts| {
            starts.iter().any(|start| whole.byte_range().contains(start) || facts.may_precede(*start, place))
        });
        !seen
    };
    let mut written: Option<Node<'_>> = None;
    Parsed::walk(facts.body, |node| {
        if written.is_some() {
            return false;
        }
        let target = match node.kind() {
            // `out[0] = …` is within every buffer.
            "subscript_expression"
                if index_of(node).is_some_and(|index| bare(index).kind() != "number_literal") =>
            {
                node.child_by_field_name("argument")
            }
            "pointer_expression" => node
                .child_by_field_name("argument")
                .map(bare)
                .filter(|inner| inner.kind() == "update_expression")
                .and_then(|inner| inner.child_by_field_name("argument")),
            _ => None,
        };
        if target.is_some_and(|target| is_written(node) && is_ignored(target, node)) {
            written = Some(node);
        }
        true
    });
    let message = "the size of the buffer is given, and nobody looks at it first";
    if let Some(node) = written {
        return finding("index-write", None, span(node), message);
    }
    let call = facts.calls.iter().find(|call| {
        let by_length = COPYING.contains(&call.name)
            && call.arguments.get(2).is_some_and(|length| !facts.names(*length).is_empty());
        let by_precision = call.name == "sprintf"
            && call.arguments.get(1).is_some_and(|format| facts.text(*format).contains("%.*s"));
        let first = call.arguments.first().filter(|_| by_length || by_precision);
        first.is_some_and(|first| is_ignored(*first, call.node))
    })?;
    finding("index-write", None, span(call.node), message)
}

/// Functions that are told how much they may write, and which argument says so.
const BOUNDED: &[(&str, usize)] = &[
    ("snprintf", 1),
    ("vsnprintf", 1),
    ("fgets", 1),
    ("strlcpy", 2),
    ("strlcat", 2),
    ("strncat", 2),
    ("strncpy", 2),
    ("memcpy", 2),
    ("memmove", 2),
    ("memset", 2),
];

/// `snprintf(out, out, …)`: an address is as good as no bound.
fn address_as_bound<'t>(facts: &Facts<'t>, call: &Call<'t>) -> Option<Finding> {
    let (_, place) = BOUNDED.iter().find(|(name, _)| *name == call.name)?;
    let bound = bare(*call.arguments.get(*place)?);
    let name = facts.text(bound);
    let is_address = match facts.locals.get(name) {
        Some(local) => local.pointers > 0 || local.array,
        None => facts.parameter(name).is_some_and(|parameter| parameter.pointers > 0),
    };
    (bound.kind() == "identifier" && is_address)
        .then(|| finding("unbounded-copy", None, span(call.node), "an address stands where the size belongs"))
        .flatten()
}

/// `count > size - 100` or `strncat(out, text, size - 100)` with a size without a sign that nobody has looked at: below 100 the
/// difference is huge. (`size - 1` is left alone: that a buffer has room for something is commonly agreed.)
fn wrapping_bound<'t>(facts: &Facts<'t>, node: Node<'t>) -> Option<Finding> {
    let operator =
        |node: Node<'t>| node.child_by_field_name("operator").map_or("", |operator| operator.kind());
    if node.kind() != "binary_expression" || operator(node) != "-" {
        return None;
    }
    let taken = number(facts.text(bare(node.child_by_field_name("right")?)))?;
    let mut first = bare(node.child_by_field_name("left")?);
    while first.kind() == "binary_expression" && operator(first) == "-" {
        first = bare(first.child_by_field_name("left")?);
    }
    let name = facts.text(first);
    let is_size = first.kind() == "identifier"
        && facts.is_unsigned(name)
        && facts
            .parameters
            .iter()
            .any(|parameter| facts.size_of(parameter.name).is_some_and(|size| size.name == name));
    let mut outer = node.parent();
    while outer.is_some_and(|outer| matches!(outer.kind(), "parenthesized_expression" | "cast_expression")) {
        outer = outer.and_then(|outer| outer.parent());
    }
    let is_bound = outer.is_some_and(|outer| match outer.kind() {
        "binary_expression" => matches!(operator(outer), "<" | "<=" | ">" | ">="),
        "argument_list" => outer.parent().is_some_and(|call| {
            let function = call.child_by_field_name("function").map_or("", |function| facts.text(function));
            BOUNDED.iter().any(|(name, _)| *name == function)
        }),
        _ => false,
    });
    let looked_at = facts.comparisons.iter().any(|comparison| {
        [comparison.left, comparison.right].into_iter().any(|side| {
            let within = side.byte_range().start <= node.start_byte() && node.end_byte() <= side.end_byte();
            !within && facts.names(side).contains(name) && facts.may_precede(side.start_byte(), node)
        })
    });
    let message = "where the size is smaller than what is taken from it, the difference is huge";
    (taken >= 2 && is_size && is_bound && !looked_at)
        .then(|| finding("wrapping-bound", None, span(node), message))
        .flatten()
}

/// Bounds that are no bounds: `strncat(out, text, size)`, and `if (strlen(text) > 64) return; sprintf(line, …)` where
/// `line` has 64 bytes and needs one for the end.
fn wrong_bound<'t>(facts: &Facts<'t>, call: &Call<'t>) -> Option<Finding> {
    if !matches!(call.name, "strncat" | "strcpy" | "strcat" | "sprintf") {
        return None;
    }
    let out = facts.text(bare(*call.arguments.first()?));
    let array = facts.locals.get(out).filter(|local| local.array);
    let size = array.and_then(|array| array.elements);
    let is_size_of_out =
        |text: &str| text.strip_prefix("sizeof").is_some_and(|of| of.trim_matches(['(', ')', ' ']) == out);
    if call.name == "strncat" {
        let bound = facts.text(bare(*call.arguments.get(2)?));
        let whole = array.is_some() && is_size_of_out(bound)
            || size.is_some_and(|size| bound.parse() == Ok(size))
            || facts.size_of(out).is_some_and(|parameter| parameter.name == bound);
        let message = "strncat wants to know how much room is left, not how large the buffer is";
        return whole.then(|| finding("unbounded-copy", None, span(call.node), message)).flatten();
    }
    let size = size?;
    let too_long = facts.comparisons.iter().any(|comparison| {
        let measured = facts.text(comparison.left).strip_prefix("strlen(");
        let of_source = measured.is_some_and(|measured| {
            let measured = measured.trim_end_matches(')');
            call.arguments.iter().skip(1).any(|argument| facts.text(bare(*argument)) == measured)
        });
        let limit = facts.text(comparison.right);
        let allows = is_size_of_out(limit) || limit.parse().is_ok_and(|limit: u64| limit >= size);
        of_source
            && comparison.operator == ">"
            && allows
            && comparison.left.start_byte() < call.node.start_byte()
    });
    let message = "the longest text that is let through leaves no room for its end";
    too_long.then(|| finding("unbounded-copy", None, span(call.node), message)).flatten()
}
