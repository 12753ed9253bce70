//! Dangerous calls: copies without a bound, format strings, shells.

use vul2safe_code::{Node, Parsed, Span};

use super::{Call, bare};
use crate::{Finding, finding};

/// The rules whose findings this module makes.
pub(super) const RULES: [&str; 3] = ["format-string", "shell-command", "unbounded-copy"];

pub(crate) fn check(parsed: &Parsed, function: Node<'_>, calls: &[Call<'_>], findings: &mut Vec<Finding>) {
    for call in calls {
        copies(parsed, function, call, findings);
        formats(parsed, call, findings);
        shells(parsed, call, calls, findings);
    }
}

fn is_literal(node: Node<'_>) -> bool {
    matches!(bare(node).kind(), "string_literal" | "concatenated_string" | "raw_string_literal")
}

fn is_constant_name(text: &str) -> bool {
    text.len() > 1 && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn span(node: Node<'_>) -> Span {
    Span::from(node.byte_range())
}

fn copies(parsed: &Parsed, function: Node<'_>, call: &Call<'_>, findings: &mut Vec<Finding>) {
    let message = "the copy is as long as its source, however small the destination";
    match call.name {
        "gets" => findings.extend(finding(
            "unbounded-copy",
            None,
            span(call.node),
            "gets cannot know the size of its buffer",
        )),
        "strcpy" | "strcat" | "stpcpy" | "wcscpy" | "wcscat" => {
            let Some(&source) = call.arguments.get(1) else { return };
            let source_text = parsed.node_text(bare(source));
            if is_literal(source)
                || is_constant_name(source_text)
                || length_checked(parsed, function, call.node, source_text)
            {
                return;
            }
            findings.extend(finding("unbounded-copy", None, span(call.node), message));
        }
        "sprintf" | "vsprintf" => {
            let Some(&format) = call.arguments.get(1) else { return };
            let bounded = is_literal(format) && !has_unbounded_string(parsed.node_text(format));
            if bounded && call.name == "sprintf" {
                return;
            }
            let checked = call.arguments.iter().skip(2).any(|argument| {
                length_checked(parsed, function, call.node, parsed.node_text(bare(*argument)))
            });
            if !checked {
                findings.extend(finding("unbounded-copy", None, span(call.node), message));
            }
        }
        "scanf" | "sscanf" | "fscanf" => {
            let format = call.arguments.get(usize::from(call.name != "scanf"));
            if format
                .is_some_and(|format| is_literal(*format) && has_unbounded_string(parsed.node_text(*format)))
            {
                findings.extend(finding(
                    "unbounded-copy",
                    None,
                    span(call.node),
                    "%s without a width reads any length",
                ));
            }
        }
        _ => {}
    }
}

/// Whether a format has `%s` or `%[` without a width or precision.
fn has_unbounded_string(format: &str) -> bool {
    let bytes = format.as_bytes();
    bytes.windows(2).enumerate().any(|(index, pair)| {
        pair[0] == b'%' && matches!(pair[1], b's' | b'[') && (index == 0 || bytes[index - 1] != b'%')
    })
}

/// Whether a condition before the call measures the source, or the destination was allocated by its length.
fn length_checked(parsed: &Parsed, function: Node<'_>, call: Node<'_>, source: &str) -> bool {
    let measure = format!("strlen({source})");
    let mut checked = false;
    Parsed::walk(function, |node| {
        if node.start_byte() >= call.start_byte() || checked {
            return false;
        }
        let text = match node.kind() {
            "if_statement" | "while_statement" => {
                node.child_by_field_name("condition").map(|node| parsed.node_text(node))
            }
            "call_expression" => {
                let name = node.child_by_field_name("function").map_or("", |name| parsed.node_text(name));
                let allocates = name.contains("alloc") || name.contains("new");
                allocates.then(|| parsed.node_text(node))
            }
            "init_declarator" | "assignment_expression" => {
                Some(parsed.node_text(node)).filter(|text| text.len() < 200)
            }
            _ => None,
        };
        if text.is_some_and(|text| text.split_whitespace().collect::<String>().contains(&measure)) {
            checked = true;
        }
        !checked
    });
    checked
}

fn formats(parsed: &Parsed, call: &Call<'_>, findings: &mut Vec<Finding>) {
    let position = match call.name {
        "printf" | "vprintf" => 0,
        "fprintf" | "vfprintf" | "sprintf" | "vsprintf" | "syslog" | "dprintf" => 1,
        "snprintf" | "vsnprintf" => 2,
        _ => return,
    };
    let Some(&format) = call.arguments.get(position) else { return };
    // Functions that take a `va_list` are wrappers: their own callers choose the format.
    if call.name.starts_with('v') || call.arguments.len() > position + 1 {
        return;
    }
    let inner = bare(format);
    let text = parsed.node_text(inner);
    let translated = text.starts_with("_(") || text.starts_with("gettext(");
    if matches!(
        inner.kind(),
        "identifier" | "field_expression" | "subscript_expression" | "call_expression" | "pointer_expression"
    ) && !is_constant_name(text)
        && !translated
        && !constant_string(parsed, text, call.node)
    {
        findings.extend(finding(
            "format-string",
            None,
            span(format),
            "a percent sign in the value would be obeyed",
        ));
    }
}

/// Whether the only thing a name was ever initialised with is a literal.
fn constant_string(parsed: &Parsed, name: &str, call: Node<'_>) -> bool {
    let mut literal = false;
    let mut other = false;
    Parsed::walk(parsed.root(), |node| {
        if node.start_byte() >= call.start_byte() {
            return false;
        }
        let (target, value) = match node.kind() {
            "init_declarator" => (node.child_by_field_name("declarator"), node.child_by_field_name("value")),
            "assignment_expression" => (node.child_by_field_name("left"), node.child_by_field_name("right")),
            _ => return true,
        };
        let target = target
            .map_or("", |target| parsed.node_text(target))
            .trim_start_matches(['*', ' '])
            .trim_end_matches("[]");
        if target == name {
            match value {
                Some(value) if is_literal(value) => literal = true,
                _ => other = true,
            }
        }
        true
    });
    literal && !other
}

fn shells(parsed: &Parsed, call: &Call<'_>, calls: &[Call<'_>], findings: &mut Vec<Finding>) {
    if !matches!(call.name, "system" | "popen" | "wordexp") {
        return;
    }
    let Some(&command) = call.arguments.first() else { return };
    let text = parsed.node_text(bare(command));
    if is_literal(command)
        || is_constant_name(text)
        || constant_string(parsed, text, call.node)
        || is_of_plain_letters(parsed, text, calls)
    {
        return;
    }
    findings.extend(finding(
        "shell-command",
        None,
        span(command),
        "the shell interprets whatever the value holds",
    ));
}

/// Whether a condition lets only letters and digits into what a command is put together from, as in
/// `for (p = name; *p; p++) if (!isalnum(*p)) return -1;`.
fn is_of_plain_letters(parsed: &Parsed, command: &str, calls: &[Call<'_>]) -> bool {
    let mut parts: Vec<&str> = calls
        .iter()
        .filter(|call| matches!(call.name, "snprintf" | "sprintf" | "strcpy" | "strcat" | "strncat"))
        .filter(|call| call.arguments.first().is_some_and(|first| parsed.node_text(bare(*first)) == command))
        .flat_map(|call| call.arguments.iter().skip(1))
        .map(|argument| parsed.node_text(bare(*argument)))
        .filter(|text| text.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .collect();
    // A pointer that runs along the value.
    Parsed::walk(parsed.root(), |node| {
        if node.kind() == "init_declarator"
            && let (Some(target), Some(value)) =
                (node.child_by_field_name("declarator"), node.child_by_field_name("value"))
            && parts.contains(&parsed.node_text(value))
        {
            parts.push(parsed.node_text(target).trim_start_matches(['*', ' ']));
        }
        true
    });
    calls.iter().any(|call| {
        let argument = call.arguments.first().map_or("", |argument| parsed.node_text(bare(*argument)));
        let argument = argument.trim_start_matches(['*', ' ']);
        let looks = matches!(call.name, "isalnum" | "isalpha" | "isdigit" | "isxdigit" | "strspn");
        looks && parts.contains(&argument) && in_condition(call.node)
    })
}

/// Whether a node stands in the condition of a branch that leaves the function.
fn in_condition(node: Node<'_>) -> bool {
    let mut inner = node;
    while let Some(parent) = inner.parent() {
        if parent.kind() == "if_statement" {
            let is_condition =
                parent.child_by_field_name("condition").is_some_and(|condition| condition.id() == inner.id());
            let mut leaves = false;
            if let Some(branch) = parent.child_by_field_name("consequence") {
                Parsed::walk(branch, |node| {
                    leaves |= matches!(node.kind(), "return_statement" | "goto_statement");
                    !leaves
                });
            }
            return is_condition && leaves;
        }
        inner = parent;
    }
    false
}
