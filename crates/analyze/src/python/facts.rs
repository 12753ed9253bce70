//! Facts: what a condition proves of the names in it.

use vul2safe_code::Node;

use super::flow::{Environment, Flow};
use super::guards::{Fact, argument_names, is_resolved, key, method_name, names_in, unwrapped};
use super::value::{NO_DOTS, NOT_ABSOLUTE, NOT_TWO_SLASHES, STARTS_WITH_SLASH, is_capital};

type Facts = Vec<(String, Fact)>;

/// What `condition` proves when it comes out as `truth`. A condition nested too deeply proves nothing.
pub(super) fn facts(
    flow: &Flow<'_>,
    condition: Node<'_>,
    truth: bool,
    environment: &Environment,
    depth: usize,
) -> Facts {
    if depth > 40 {
        return Facts::new();
    }
    let deeper = |node: Node<'_>, truth: bool| facts(flow, node, truth, environment, depth + 1);
    match condition.kind() {
        "parenthesized_expression" | "named_expression" => {
            let inner = condition.child_by_field_name("value").or_else(|| condition.named_child(0));
            inner.map(|inner| deeper(inner, truth)).unwrap_or_default()
        }
        "not_operator" => {
            condition.child_by_field_name("argument").map(|inner| deeper(inner, !truth)).unwrap_or_default()
        }
        "boolean_operator" => {
            let is_and =
                condition.child_by_field_name("operator").is_some_and(|operator| operator.kind() == "and");
            let left =
                condition.child_by_field_name("left").map(|left| deeper(left, truth)).unwrap_or_default();
            let right =
                condition.child_by_field_name("right").map(|right| deeper(right, truth)).unwrap_or_default();
            if is_and == truth {
                // Both sides came out as `truth`.
                left.into_iter().chain(right).collect()
            } else {
                // One of the sides did: only what either proves.
                left.into_iter().filter(|fact| right.contains(fact)).collect()
            }
        }
        "comparison_operator" => comparison(flow, condition, truth, environment),
        "call" => call_facts(flow, condition, truth, environment, depth),
        "attribute" => {
            // `if urlparse(x).netloc:` false: the address has no host.
            let field = flow.field_text(condition, "attribute");
            if !truth && matches!(field, "netloc" | "hostname") {
                return named(names_in(flow, condition), Fact::HostChecked);
            }
            Facts::new()
        }
        _ => Facts::new(),
    }
}

fn named(names: Vec<String>, fact: Fact) -> Facts {
    names.into_iter().map(|name| (name, fact)).collect()
}

fn comparison(flow: &Flow<'_>, condition: Node<'_>, truth: bool, environment: &Environment) -> Facts {
    let (Some(left), Some(right)) = (condition.named_child(0), condition.named_child(1)) else {
        return Facts::new();
    };
    if condition.named_child_count() != 2 {
        return Facts::new();
    }
    let operator = flow.text_between(left, right);
    let (positive, is_membership) = match operator {
        "in" => (true, true),
        "not in" => (false, true),
        "==" | "is" => (true, false),
        "!=" | "is not" => (false, false),
        _ => return Facts::new(),
    };
    let holds = positive == truth;
    let (left_text, right_text) = (flow.text(left), flow.text(right));
    let mut found = Facts::new();
    // Parts of an address, wherever they stand.
    for (side, other) in [(left, right), (right, left)] {
        let text = flow.text(side);
        let names_host = text.contains("netloc")
            || text.contains("hostname")
            || key(flow, side).and_then(|name| environment.get(&name)).is_some_and(|value| {
                value.made_by.ends_with("netloc") || value.made_by.ends_with("hostname")
            });
        if names_host && holds && !(is_membership && (side.id() != left.id() || other.kind() == "string")) {
            found.extend(named(names_in(flow, side), Fact::HostChecked));
        }
    }
    if is_membership {
        if holds && right.kind() != "string" {
            if let Some(name) = unwrapped(flow, left) {
                // Membership in a text that the attacker gives proves nothing, in a list it does.
                found.push((name, Fact::Allowed));
            }
            if right_text.ends_with(".parents") && is_resolved(flow, right, environment) {
                found.extend(named(names_in(flow, right), Fact::Contained));
            }
        }
        if !holds && left.kind() == "string" {
            let Some(name) = unwrapped(flow, right).or_else(|| names_in(flow, right).into_iter().next())
            else {
                return found;
            };
            match left_text.trim_matches(['"', '\'']) {
                ".." | "../" => found.push((name, Fact::Partial(NO_DOTS))),
                "/" => found.push((name, Fact::PlainName)),
                "\\n" | "\\r\\n" => found.push((name, Fact::OneLine)),
                _ => {}
            }
        }
        if !holds && matches!(left_text, "os.sep" | "os.path.sep") {
            found.extend(unwrapped(flow, right).map(|name| (name, Fact::PlainName)));
        }
        return found;
    }
    if !holds {
        return found;
    }
    for (side, other) in [(left, right), (right, left)] {
        let other_text = flow.text(other);
        let constant = matches!(other.kind(), "string" | "integer" | "true" | "false" | "none")
            || is_capital(other_text);
        if constant && !matches!(other.kind(), "none") {
            found.extend(unwrapped(flow, side).map(|name| (name, Fact::Allowed)));
        }
        let text = flow.text(side);
        if text.contains("commonpath(") || text.contains("commonprefix(") {
            if is_resolved(flow, side, environment) || is_resolved(flow, other, environment) {
                found.extend(named(names_in(flow, side), Fact::Contained));
            }
        } else if text.contains("basename(") || text.ends_with(".name") {
            found.extend(unwrapped(flow, other).map(|name| (name, Fact::PlainName)));
        } else if (text.contains(".parent") || text.contains("dirname("))
            && is_resolved(flow, side, environment)
        {
            found.extend(named(names_in(flow, side), Fact::Contained));
        }
    }
    found
}

fn call_facts(
    flow: &Flow<'_>,
    call: Node<'_>,
    truth: bool,
    environment: &Environment,
    depth: usize,
) -> Facts {
    let Some(function) = call.child_by_field_name("function") else { return Facts::new() };
    let Some(arguments) = call.child_by_field_name("arguments") else { return Facts::new() };
    let method = method_name(flow, function);
    let object = function.child_by_field_name("object").filter(|_| function.kind() == "attribute");
    let first =
        if arguments.kind() == "generator_expression" { Some(arguments) } else { arguments.named_child(0) };
    let own_name = object.and_then(|object| unwrapped(flow, object));
    match (method, truth) {
        (
            "isdigit" | "isnumeric" | "isdecimal" | "isalnum" | "isalpha" | "isidentifier" | "isascii_alnum",
            true,
        ) => own_name.map(|name| (name, Fact::Allowed)).into_iter().collect(),
        ("isprintable", true) => own_name.map(|name| (name, Fact::OneLine)).into_iter().collect(),
        ("startswith", _) => starts_with(flow, object, first, truth, environment),
        ("is_relative_to", true) => match object {
            Some(object) if is_resolved(flow, object, environment) => {
                named(names_in(flow, object), Fact::Contained)
            }
            _ => Facts::new(),
        },
        ("isabs" | "is_absolute", false) => first
            .and_then(|first| unwrapped(flow, first))
            .or(own_name)
            .map(|name| (name, Fact::Partial(NOT_ABSOLUTE)))
            .into_iter()
            .collect(),
        ("match" | "fullmatch", true) => regular_expression(flow, method, object, arguments, environment),
        ("compare_digest", true) => named(names_in(flow, arguments), Fact::Authentic),
        ("isinstance", true) => {
            let types = arguments.named_child(1).map_or("", |types| flow.text(types));
            if matches!(types, "int" | "float" | "bool" | "(int, float)" | "numbers.Number") {
                return first
                    .and_then(|first| unwrapped(flow, first))
                    .map(|name| (name, Fact::Allowed))
                    .into_iter()
                    .collect();
            }
            Facts::new()
        }
        ("issubset" | "all" | "any", _) => {
            quantified(flow, method, first, own_name, truth, environment, depth)
        }
        ("url_has_allowed_host_and_scheme" | "is_safe_url", true) => {
            named(argument_names(flow, call), Fact::HostChecked)
        }
        (_, true) if flow.defined.get(method).copied().unwrap_or_else(|| promises_safety(method)) => {
            named(argument_names(flow, call), Fact::Allowed)
        }
        _ => Facts::new(),
    }
}

/// Names of functions elsewhere that say they check.
fn promises_safety(method: &str) -> bool {
    let lower = method.to_ascii_lowercase();
    let lower = lower.trim_start_matches('_');
    ["is_safe", "is_valid", "is_allowed", "validate", "is_within", "is_inside", "allowed_", "check_"]
        .iter()
        .any(|prefix| lower.starts_with(prefix))
}

fn starts_with(
    flow: &Flow<'_>,
    object: Option<Node<'_>>,
    prefix: Option<Node<'_>>,
    truth: bool,
    environment: &Environment,
) -> Facts {
    let (Some(object), Some(prefix)) = (object, prefix) else { return Facts::new() };
    let prefix_text = flow.text(prefix);
    let name = unwrapped(flow, object);
    let bare = prefix_text.trim_matches(['(', ')']).trim_matches(['"', '\'']);
    let bits = |bit: u8| name.clone().map(|name| (name, Fact::Partial(bit))).into_iter().collect::<Facts>();
    if truth {
        if is_resolved(flow, object, environment) {
            return named(names_in(flow, object), Fact::Contained);
        }
        if bare == "/" {
            return bits(STARTS_WITH_SLASH);
        }
        // An address that begins with a scheme, a whole host and a slash stays on that host.
        let host = bare.split_once("://").map(|(_, rest)| rest);
        if prefix.kind() == "string" && host.is_some_and(|rest| rest.find('/').is_some_and(|slash| slash > 0))
        {
            return name.map(|name| (name, Fact::HostChecked)).into_iter().collect();
        }
        return Facts::new();
    }
    if prefix.kind() == "tuple" && prefix_text.contains("\"//\"") {
        return bits(NOT_TWO_SLASHES);
    }
    match bare {
        "/" | "\\\\" => bits(NOT_ABSOLUTE),
        "//" => bits(NOT_TWO_SLASHES),
        ".." | "../" => Facts::new(),
        _ if prefix.kind() == "tuple" && prefix_text.contains("\"/\"") => bits(NOT_ABSOLUTE),
        _ => Facts::new(),
    }
}

/// A whole match of a pattern that lets no separators and no foreign characters through.
fn regular_expression(
    flow: &Flow<'_>,
    method: &str,
    object: Option<Node<'_>>,
    arguments: Node<'_>,
    environment: &Environment,
) -> Facts {
    let by_module = object.is_some_and(|object| flow.text(object) == "re");
    let (pattern, subject) = if by_module {
        (arguments.named_child(0), arguments.named_child(1))
    } else {
        (None, arguments.named_child(0))
    };
    let Some(name) = subject.and_then(|subject| unwrapped(flow, subject)) else { return Facts::new() };
    let text = match pattern {
        Some(pattern) if pattern.kind() == "string" => flow.text(pattern).to_string(),
        // A compiled pattern, or one by name: what it allows is not known, its author chose it.
        Some(_) | None => {
            let holder = pattern.or(object).and_then(|holder| key(flow, holder));
            let known = holder.and_then(|holder| environment.get(&holder).map(|value| value.text.clone()));
            match known {
                Some(text) if !text.is_empty() => format!("'{text}'"),
                _ => return vec![(name, Fact::Allowed)],
            }
        }
    };
    let text = text.trim_start_matches(['r', 'b', 'R', 'B']).trim_matches(['"', '\'']);
    if stays_on_site(text) {
        return vec![(name, Fact::Partial(STARTS_WITH_SLASH | NOT_TWO_SLASHES))];
    }
    let whole = method == "fullmatch" || text.ends_with('$') || text.ends_with("\\Z");
    let lets_all_through =
        text.contains(".*") || text.contains(".+") || text.contains("[^") || text.contains("\\S");
    if !whole || lets_all_through {
        return Facts::new();
    }
    vec![(name, Fact::Allowed)]
}

/// Whether a pattern, matched at the beginning, asks for one slash that no second one follows.
fn stays_on_site(pattern: &str) -> bool {
    let pattern = pattern.trim_start_matches("\\A").trim_start_matches('^');
    let Some(after) = pattern.strip_prefix('/').or_else(|| pattern.strip_prefix("\\/")) else { return false };
    // An alternative may begin in any other way, and a quantifier may ask for no character.
    if pattern.contains('|') {
        return false;
    }
    if let Some(refused) = after.strip_prefix("(?!") {
        return refused.split_once(')').is_some_and(|(refused, _)| refused.contains('/'));
    }
    let (fits, rest) = if let Some(class) = after.strip_prefix('[') {
        let Some((class, rest)) = class.split_once(']') else { return false };
        let slash =
            class.contains('/') || class.contains("\\\\") || class.contains("\\S") || class.contains("\\W");
        (class.strip_prefix('^').map_or(!slash, |refused| refused.contains('/')), rest)
    } else if let Some(rest) = after.strip_prefix("\\w").or_else(|| after.strip_prefix("\\d")) {
        (true, rest)
    } else {
        let rest = after.strip_prefix(|c: char| c.is_ascii_alphanumeric());
        (rest.is_some(), rest.unwrap_or_default())
    };
    fits && !rest.starts_with(['*', '?', '{'])
}

/// `all(x in ALLOWED for x in xs)`, `any(x not in ALLOWED for x in xs)`, `set(xs).issubset(ALLOWED)`.
fn quantified(
    flow: &Flow<'_>,
    method: &str,
    first: Option<Node<'_>>,
    own_name: Option<String>,
    truth: bool,
    environment: &Environment,
    depth: usize,
) -> Facts {
    if method == "issubset" {
        return if truth {
            own_name.map(|name| (name, Fact::Allowed)).into_iter().collect()
        } else {
            Facts::new()
        };
    }
    let decides = (method == "all") == truth;
    let Some(generator) = first
        .filter(|first| first.kind().ends_with("_comprehension") || first.kind() == "generator_expression")
    else {
        return Facts::new();
    };
    let (Some(body), true) = (generator.child_by_field_name("body"), decides) else { return Facts::new() };
    let Some(clause) = generator.named_children().find(|child| child.kind() == "for_in_clause") else {
        return Facts::new();
    };
    let variable = clause.child_by_field_name("left").and_then(|left| key(flow, left));
    let items = clause.child_by_field_name("right");
    let (Some(variable), Some(items)) = (variable, items) else { return Facts::new() };
    let mut found = Facts::new();
    for (name, fact) in facts(flow, body, truth, environment, depth + 1) {
        if name == variable {
            found.extend(names_in(flow, items).into_iter().map(|items| (items, fact)));
        } else {
            found.push((name, fact));
        }
    }
    found
}

impl<'a> Flow<'a> {
    /// The operator between two operands, white space evened out.
    pub fn text_between(&self, left: Node<'_>, right: Node<'_>) -> &'a str {
        let between = self.parsed.text().get(left.end_byte()..right.start_byte()).unwrap_or_default().trim();
        let between = between.trim_matches(['(', ')']).trim();
        if between.starts_with("not") && between.ends_with("in") {
            "not in"
        } else if between.starts_with("is") && between.ends_with("not") {
            "is not"
        } else {
            between
        }
    }
}
