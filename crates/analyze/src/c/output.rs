//! What leaves the function: records with bytes that were never written, and paths made of a name nobody looked at.

use vul2safe_code::Node;

use super::facts::{Facts, number, span};
use super::{Call, bare};
use crate::{Finding, finding};

/// The rules whose findings this module makes.
pub(super) const RULES: [&str; 2] = ["joined-path", "unwritten-bytes"];

pub(crate) fn check(facts: &Facts<'_>, findings: &mut Vec<Finding>) {
    for call in facts.calls {
        findings.extend(unwritten_bytes(facts, call));
        findings.extend(joined_path(facts, call));
    }
}

/// Functions that write a string and leave the rest of the buffer as it was.
const STRINGS: &[&str] = &["snprintf", "sprintf", "strcpy", "strcat", "strncat", "strlcpy", "stpcpy"];

/// `char record[16]; snprintf(record, …); fwrite(record, 1, sizeof record, file)`: only the string was written.
fn unwritten_bytes<'t>(facts: &Facts<'t>, call: &Call<'t>) -> Option<Finding> {
    let (source, lengths) = match call.name {
        "fwrite" => (0, 1..3),
        "write" | "send" => (1, 2..3),
        "memcpy" => (1, 2..3),
        _ => return None,
    };
    let record = bare(*call.arguments.get(source)?);
    let name = facts.text(record);
    let local = facts.locals.get(name).filter(|_| record.kind() == "identifier")?;
    let whole = match local.values[..] {
        [] if local.array && !local.initialised => local.elements,
        [(value, _)] if !local.array => allocated(facts, value),
        _ => return None,
    };
    let is_whole = |length: &Node<'t>| {
        let text = facts.text(bare(*length));
        let bare_size = text.trim_start_matches("sizeof").trim_matches(['(', ')', ' ']);
        let of_array = local.array && text.starts_with("sizeof") && bare_size == name;
        of_array
            || whole
                .is_some_and(|whole| number(text).is_some_and(|length| u64::try_from(length) == Ok(whole)))
    };
    if !call.arguments.get(lengths)?.iter().any(is_whole) {
        return None;
    }
    // Whoever else gets the record may fill it.
    let mut strings = 0;
    for other in facts.calls.iter().filter(|other| other.node.end_byte() <= call.node.start_byte()) {
        if other.arguments.iter().any(|argument| facts.names(*argument).contains(name)) {
            let into = other.arguments.first().is_some_and(|first| facts.text(bare(*first)) == name);
            if !STRINGS.contains(&other.name) || !into {
                return None;
            }
            strings += 1;
        }
    }
    let filled_in_loop = facts
        .comparisons
        .iter()
        .any(|comparison| comparison.of_loop.is_some_and(|of_loop| facts.names(of_loop).contains(name)));
    if strings == 0 || filled_in_loop {
        return None;
    }
    finding("unwritten-bytes", None, span(call.node), "the bytes behind the text were never written")
}

/// The number in `malloc(16)`.
fn allocated<'t>(facts: &Facts<'t>, value: Node<'t>) -> Option<u64> {
    let call = facts.calls.iter().find(|call| call.node.id() == bare(value).id() && call.name == "malloc")?;
    number(facts.text(*call.arguments.first()?)).and_then(|size| u64::try_from(size).ok())
}

/// Functions that tell or change what stands in a name.
const LOOKING: &[&str] = &[
    "strchr", "strrchr", "strstr", "strpbrk", "strcspn", "strspn", "basename", "realpath", "memchr",
    "isalnum", "isalpha", "isdigit",
];

/// `snprintf(path, …, "folder/%s", name); fopen(path, …)` with a name of the caller's.
fn joined_path<'t>(facts: &Facts<'t>, call: &Call<'t>) -> Option<Finding> {
    let format = match call.name {
        "snprintf" => 2,
        "sprintf" => 1,
        _ => return None,
    };
    let text = facts.text(bare(*call.arguments.get(format)?));
    // A path that begins at the root names a place of the system, as in "/proc/%s".
    if !text.contains("/%s") || text.starts_with("\"/") {
        return None;
    }
    let path = facts.text(bare(*call.arguments.first()?));
    facts.locals.get(path).filter(|local| local.array)?;
    let opened = facts.calls.iter().any(|other| {
        matches!(other.name, "fopen" | "open" | "unlink" | "remove" | "opendir")
            && other.arguments.first().is_some_and(|first| facts.text(bare(*first)) == path)
    });
    let name = call.arguments.get(format + 1..)?.iter().find(|argument| {
        facts.parameter(facts.text(bare(**argument))).is_some_and(|parameter| parameter.pointers == 1)
    })?;
    let name = facts.text(bare(*name));
    let looked_at = facts.calls.iter().any(|other| {
        LOOKING.contains(&other.name)
            && other.arguments.iter().any(|argument| facts.names(*argument).contains(name))
    });
    if !opened || looked_at {
        return None;
    }
    finding("joined-path", None, span(call.node), "the name may lead out of the folder")
}
