//! Memory: use after free, double free, unchecked allocation and writes past fixed buffers, in straight lines.

use std::collections::HashMap;

use vul2safe_code::{Node, Parsed, Span};

use super::{as_call, bare};
use crate::{Finding, finding};

/// Functions that give memory back.
const FREEING: &[&str] = &["free", "kfree", "g_free", "vfree", "kvfree", "av_free", "xfree", "OPENSSL_free"];
/// Functions that give `NULL` when memory is short.
const ALLOCATING: &[&str] = &[
    "malloc", "calloc", "realloc", "strdup", "strndup", "kmalloc", "kzalloc", "kcalloc", "kstrdup",
    "vmalloc", "vzalloc",
];

/// The rules whose findings this module makes.
pub(super) const RULES: [&str; 4] = ["double-free", "stack-write", "unchecked-allocation", "use-after-free"];

pub(crate) fn check(parsed: &Parsed, function: Node<'_>, findings: &mut Vec<Finding>) {
    let sizes = fixed_buffers(parsed, function);
    Parsed::walk(function, |node| {
        if node.kind() == "compound_statement" || node.kind() == "case_statement" {
            straight_line(parsed, node, findings);
        }
        if node.kind() == "subscript_expression" {
            past_end(parsed, node, &sizes, findings);
        }
        true
    });
}

fn span(node: Node<'_>) -> Span {
    Span::from(node.byte_range())
}

/// Follows the statements of one block in order. Only what this block itself frees or allocates is tracked, and
/// anything that might change the pointer ends the tracking: a loop, a label, an assignment, its address taken.
fn straight_line(parsed: &Parsed, block: Node<'_>, findings: &mut Vec<Finding>) {
    let mut freed: HashMap<String, Span> = HashMap::new();
    let mut allocated: HashMap<String, Span> = HashMap::new();
    for statement in block.named_children() {
        let kind = statement.kind();
        if kind == "comment" {
            continue;
        }
        if kind == "labeled_statement" || kind == "case_statement" || kind.starts_with("preproc") {
            freed.clear();
            allocated.clear();
            continue;
        }
        report_uses(parsed, statement, &mut freed, &mut allocated, findings);
        forget_changed(parsed, statement, &mut freed, &mut allocated);
        if kind == "expression_statement" || kind == "declaration" {
            if let Some(call) = statement
                .named_child(0)
                .filter(|inner| inner.kind() == "call_expression")
                .and_then(|inner| as_call(parsed, inner))
                && FREEING.contains(&call.name)
                && let [pointer] = call.arguments[..]
                && is_place(bare(pointer))
            {
                freed.insert(parsed.node_text(bare(pointer)).to_string(), span(statement));
            }
            if let Some((name, place)) = allocation(parsed, statement) {
                allocated.insert(name, place);
            }
        }
    }
}

fn is_place(node: Node<'_>) -> bool {
    matches!(node.kind(), "identifier" | "field_expression")
}

/// `p = malloc(n)` or `T *p = malloc(n)`: the pointer and the call.
fn allocation(parsed: &Parsed, statement: Node<'_>) -> Option<(String, Span)> {
    let inner = statement.named_child(0).filter(|inner| inner.kind() == "assignment_expression");
    let (target, value) = match inner {
        Some(assignment) => {
            (assignment.child_by_field_name("left")?, assignment.child_by_field_name("right")?)
        }
        None => {
            let declarator = statement
                .child_by_field_name("declarator")
                .filter(|inner| inner.kind() == "init_declarator")?;
            (declarator.child_by_field_name("declarator")?, declarator.child_by_field_name("value")?)
        }
    };
    let mut target = target;
    while target.kind() == "pointer_declarator" {
        target = target.child_by_field_name("declarator")?;
    }
    let value = bare(value);
    let call = (value.kind() == "call_expression").then(|| as_call(parsed, value)).flatten()?;
    (ALLOCATING.contains(&call.name) && is_place(target))
        .then(|| (parsed.node_text(target).to_string(), span(value)))
}

fn report_uses(
    parsed: &Parsed,
    statement: Node<'_>,
    freed: &mut HashMap<String, Span>,
    allocated: &mut HashMap<String, Span>,
    findings: &mut Vec<Finding>,
) {
    // A test of the pointer, wherever it stands, is taken as the check; after it nothing is reported.
    if matches!(statement.kind(), "if_statement" | "while_statement" | "for_statement") {
        let condition =
            statement.child_by_field_name("condition").map_or("", |condition| parsed.node_text(condition));
        allocated.retain(|name, _| !mentions(condition, name));
    }
    if freed.is_empty() && allocated.is_empty() {
        return;
    }
    let is_conditional = matches!(
        statement.kind(),
        "if_statement" | "while_statement" | "for_statement" | "switch_statement" | "do_statement"
    );
    Parsed::walk(statement, |node| {
        if node.kind() == "call_expression"
            && let Some(call) = as_call(parsed, node)
        {
            for argument in &call.arguments {
                let text = parsed.node_text(bare(*argument));
                if freed.contains_key(text) {
                    let (rule, message) = if FREEING.contains(&call.name) {
                        ("double-free", "the memory was freed before")
                    } else {
                        ("use-after-free", "the memory was freed before this use")
                    };
                    findings.extend(finding(rule, None, span(*argument), message));
                    freed.remove(text);
                }
            }
            let assertion = call.name.to_ascii_lowercase().contains("assert");
            if assertion {
                allocated.retain(|name, _| {
                    !call.arguments.iter().any(|argument| mentions(parsed.node_text(*argument), name))
                });
            }
            if matches!(call.name, "memcpy" | "memset" | "strcpy" | "memmove" | "strcat" | "sprintf")
                && let Some(first) = call.arguments.first()
            {
                let text = parsed.node_text(bare(*first)).to_string();
                if !is_conditional && allocated.remove(&text).is_some() {
                    findings.extend(finding(
                        "unchecked-allocation",
                        None,
                        span(*first),
                        "the pointer may be NULL",
                    ));
                }
            }
        }
        let pointer = match node.kind() {
            "field_expression" if parsed.node_text(node).contains("->") => {
                node.child_by_field_name("argument")
            }
            "pointer_expression" if parsed.node_text(node).starts_with('*') => {
                node.child_by_field_name("argument")
            }
            "subscript_expression" => node.child_by_field_name("argument"),
            _ => None,
        };
        if let Some(pointer) = pointer {
            let text = parsed.node_text(bare(pointer)).to_string();
            if freed.remove(&text).is_some() {
                findings.extend(finding(
                    "use-after-free",
                    None,
                    span(node),
                    "the memory was freed before this use",
                ));
            }
            if !is_conditional && allocated.remove(&text).is_some() {
                findings.extend(finding("unchecked-allocation", None, span(node), "the pointer may be NULL"));
            }
        }
        if node.kind() == "return_statement"
            && let Some(value) = node.named_child(0)
            && freed.remove(parsed.node_text(bare(value))).is_some()
        {
            findings.extend(finding("use-after-free", None, span(value), "freed memory is returned"));
        }
        // `p = NULL` inside a branch, `&p` passed on: no longer known.
        !matches!(node.kind(), "assignment_expression")
            || node.child_by_field_name("left").is_none_or(|left| !freed.contains_key(parsed.node_text(left)))
    });
}

fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        !text[..start].ends_with(word) && !text[start + name.len()..].starts_with(word)
    })
}

/// Drops names that the statement assigns, or whose address it takes.
fn forget_changed(
    parsed: &Parsed,
    statement: Node<'_>,
    freed: &mut HashMap<String, Span>,
    allocated: &mut HashMap<String, Span>,
) {
    // Every block comes here with every statement in it, so an inner block is walked once for each block around
    // it; nothing needs walking while there is nothing to forget.
    if freed.is_empty() && allocated.is_empty() {
        return;
    }
    let mut forget = |text: &str| {
        freed.retain(|name, _| {
            name != text && !name.starts_with(&format!("{text}->")) && !name.starts_with(&format!("{text}."))
        });
        allocated.remove(text);
    };
    Parsed::walk(statement, |node| {
        match node.kind() {
            "assignment_expression" | "update_expression" => {
                let target =
                    node.child_by_field_name("left").or_else(|| node.child_by_field_name("argument"));
                if let Some(target) = target {
                    forget(parsed.node_text(target));
                }
            }
            "init_declarator" => {
                if let Some(target) = node.child_by_field_name("declarator") {
                    forget(parsed.node_text(target).trim_start_matches(['*', ' ']));
                }
            }
            "pointer_expression" if parsed.node_text(node).starts_with('&') => {
                if let Some(target) = node.child_by_field_name("argument") {
                    forget(parsed.node_text(target));
                }
            }
            _ => {}
        }
        true
    });
}

/// Local arrays with a literal size.
fn fixed_buffers(parsed: &Parsed, function: Node<'_>) -> HashMap<String, u64> {
    let mut sizes = HashMap::new();
    Parsed::walk(function, |node| {
        if node.kind() == "array_declarator"
            && let (Some(name), Some(size)) =
                (node.child_by_field_name("declarator"), node.child_by_field_name("size"))
            && let Ok(size) = parsed.node_text(size).parse::<u64>()
        {
            sizes.insert(parsed.node_text(name).to_string(), size);
        }
        true
    });
    sizes
}

/// `buffer[10] = …` where the buffer has 10 elements.
fn past_end(parsed: &Parsed, node: Node<'_>, sizes: &HashMap<String, u64>, findings: &mut Vec<Finding>) {
    let Some(size) =
        node.child_by_field_name("argument").and_then(|array| sizes.get(parsed.node_text(array)))
    else {
        return;
    };
    let index = node
        .child_by_field_name("indices")
        .and_then(|list| list.named_child(0))
        .or_else(|| node.child_by_field_name("index"));
    let written = node.parent().is_some_and(|parent| {
        parent.kind() == "assignment_expression"
            && parent.child_by_field_name("left").is_some_and(|left| left.id() == node.id())
    });
    if let Some(Ok(index)) = index.map(|index| parsed.node_text(index).parse::<u64>())
        && index >= *size
        && written
    {
        findings.extend(finding(
            "stack-write",
            None,
            span(node),
            "the index lies past the end of the buffer",
        ));
    }
}
