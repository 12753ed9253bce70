//! Guards: what is proved of names at a place, and how it changes their values.

use vul2safe_code::Node;
use vul2safe_code::Parsed;

use super::facts::facts;
use super::flow::{Environment, Flow};
use super::value::{Level, NO_DOTS, NOT_ABSOLUTE, NOT_TWO_SLASHES, Risk, STARTS_WITH_SLASH, Value};

/// Something proved of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fact {
    /// Equal to one of a list, or of harmless characters only: good for every purpose.
    Allowed,
    /// The path lies in its folder; holds for the names the path derives from as well.
    Contained,
    /// The bytes, or the address, were checked; holds for the names they derive from as well.
    Authentic,
    HostChecked,
    /// No path separator.
    PlainName,
    OneLine,
    Partial(u8),
}

const EVERY_RISK: [Risk; 7] =
    [Risk::Sql, Risk::Shell, Risk::Path, Risk::Html, Risk::Log, Risk::Code, Risk::Url];

/// How a name is stored in the environment: `x`, `self.x`, `x.y["z"]`.
pub(crate) fn key(flow: &Flow<'_>, node: Node<'_>) -> Option<String> {
    match node.kind() {
        "identifier" => Some(flow.text(node).to_string()),
        "attribute" | "subscript" => {
            let text = flow.text(node);
            let simple =
                |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '"' | '\'' | '-');
            (text.len() < 80 && text.chars().all(simple)).then(|| text.to_string())
        }
        "parenthesized_expression" | "as_pattern_target" => {
            node.named_child(0).and_then(|inner| key(flow, inner))
        }
        _ => None,
    }
}

/// `True`, `1` and `False`, `0`, `None` written as conditions.
pub(crate) fn constant_truth(condition: &str) -> Option<bool> {
    match condition.trim_matches(['(', ')', ' ']) {
        "True" | "1" => Some(true),
        "False" | "0" | "None" | "\"\"" | "''" | "not True" => Some(false),
        _ => None,
    }
}

/// Whether something was proved between two states of a name.
pub(crate) fn gained(before: &Value, after: &Value) -> bool {
    EVERY_RISK.iter().any(|&risk| before.level(risk) > Level::Clean && after.level(risk) <= Level::Clean)
}

/// Takes over for `collection` what was proved of its elements.
pub(crate) fn copy_gains(element: &Value, collection: &mut Value) {
    for risk in EVERY_RISK {
        if element.level(risk) <= Level::Clean {
            collection.clean(risk);
        }
    }
}

/// Applies what `condition` proves when it comes out as `truth`.
pub(crate) fn assume(flow: &mut Flow<'_>, condition: Node<'_>, truth: bool, environment: &mut Environment) {
    for (name, fact) in facts(flow, condition, truth, environment, 0) {
        apply(&name, fact, environment);
    }
}

/// Applies what a call standing alone proves, because it raises otherwise.
pub(crate) fn assume_statement(flow: &mut Flow<'_>, statement: Node<'_>, environment: &mut Environment) {
    let Some(mut call) = statement.named_child(0) else { return };
    if call.kind() == "assignment"
        && let Some(right) = call.child_by_field_name("right")
    {
        call = right;
    }
    if call.kind() != "call" {
        return;
    }
    let Some(function) = call.child_by_field_name("function") else { return };
    let method = method_name(flow, function);
    if method == "relative_to" {
        if let Some(object) = function.child_by_field_name("object")
            && is_resolved(flow, object, environment)
        {
            for name in names_in(flow, object) {
                apply(&name, Fact::Contained, environment);
            }
        }
        return;
    }
    let lower = method.to_ascii_lowercase();
    let checks = ["check_", "validate", "sanitize", "sanitise"];
    let says_so = checks.iter().any(|prefix| lower.trim_start_matches('_').starts_with(prefix));
    // Of a function in this text it is known whether it can refuse; of others only what they are called.
    if flow.defined.get(method).copied().unwrap_or(says_so) {
        for name in argument_names(flow, call) {
            apply(&name, Fact::Allowed, environment);
        }
    }
}

fn apply(name: &str, fact: Fact, environment: &mut Environment) {
    let value = environment.entry(name.to_string()).or_insert_with(|| Value::at(Level::Unknown));
    let spreads = match fact {
        Fact::Allowed => {
            value.clean_all();
            false
        }
        Fact::Contained => {
            value.clean(Risk::Path);
            true
        }
        Fact::Authentic => {
            value.clean(Risk::Code);
            true
        }
        Fact::HostChecked => {
            value.clean(Risk::Url);
            true
        }
        Fact::PlainName => {
            value.clean(Risk::Path);
            false
        }
        Fact::OneLine => {
            value.clean(Risk::Log);
            false
        }
        Fact::Partial(bit) => {
            value.facts |= bit;
            if value.facts & (NO_DOTS | NOT_ABSOLUTE) == NO_DOTS | NOT_ABSOLUTE {
                value.clean(Risk::Path);
            }
            if value.facts & (STARTS_WITH_SLASH | NOT_TWO_SLASHES) == STARTS_WITH_SLASH | NOT_TWO_SLASHES {
                value.clean(Risk::Url);
            }
            false
        }
    };
    if spreads {
        let risk = match fact {
            Fact::Contained => Risk::Path,
            Fact::Authentic => Risk::Code,
            _ => Risk::Url,
        };
        let sources = value.sources.clone();
        for source in sources {
            if let Some(origin) = environment.get_mut(&source) {
                origin.clean(risk);
            }
        }
        // What was derived from the checked name is checked with it.
        for other in environment.values_mut() {
            if other.sources.iter().any(|source| source == name) {
                other.clean(risk);
            }
        }
    }
}

pub(super) fn method_name<'t>(flow: &Flow<'t>, function: Node<'_>) -> &'t str {
    match function.kind() {
        "attribute" => flow.field_text(function, "attribute"),
        _ => flow.text(function),
    }
}

/// Every identifier below a node, attribute names excluded.
pub(super) fn names_in(flow: &Flow<'_>, node: Node<'_>) -> Vec<String> {
    let mut names = Vec::new();
    Parsed::walk(node, |inner| {
        if inner.kind() == "identifier" {
            names.push(flow.text(inner).to_string());
        }
        if inner.kind() == "attribute"
            && let Some(object) = inner.child_by_field_name("object")
        {
            names.extend(key(flow, inner));
            names.extend(names_in_shallow(flow, object));
            return object.kind() == "call";
        }
        true
    });
    names
}

fn names_in_shallow(flow: &Flow<'_>, node: Node<'_>) -> Option<String> {
    (node.kind() == "identifier").then(|| flow.text(node).to_string())
}

pub(super) fn argument_names(flow: &Flow<'_>, call: Node<'_>) -> Vec<String> {
    call.child_by_field_name("arguments").map(|arguments| names_in(flow, arguments)).unwrap_or_default()
}

/// The name inside harmless wrappers: `x.strip().lower()`, `str(x)`, `(x)`.
pub(super) fn unwrapped(flow: &Flow<'_>, node: Node<'_>) -> Option<String> {
    if let Some(name) = key(flow, node) {
        return Some(name);
    }
    if node.kind() != "call" {
        return None;
    }
    let function = node.child_by_field_name("function")?;
    match method_name(flow, function) {
        "strip" | "lower" | "upper" | "casefold" | "decode" | "encode" => {
            unwrapped(flow, function.child_by_field_name("object")?)
        }
        "str" | "set" | "type" => unwrapped(flow, node.child_by_field_name("arguments")?.named_child(0)?),
        _ => None,
    }
}

/// Whether an expression gives a path without dots and links.
pub(super) fn is_resolved(flow: &Flow<'_>, node: Node<'_>, environment: &Environment) -> bool {
    let mut resolved = false;
    Parsed::walk(node, |inner| {
        match inner.kind() {
            "identifier" | "attribute" => {
                resolved |= key(flow, inner)
                    .and_then(|name| environment.get(&name))
                    .is_some_and(|value| value.resolved);
            }
            "call" => {
                if let Some(function) = inner.child_by_field_name("function") {
                    resolved |= matches!(
                        method_name(flow, function),
                        "realpath" | "abspath" | "resolve" | "normpath"
                    );
                    resolved |=
                        flow.text(function).ends_with("realpath") || flow.text(function).ends_with("abspath");
                }
            }
            _ => {}
        }
        !resolved
    });
    resolved
}
