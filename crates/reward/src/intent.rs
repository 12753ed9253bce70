//! Whether an answer still does what was asked, where no test can tell.

use std::collections::HashSet;
use vul2safe_code::{Function, LeafKind, Parsed};

/// Whether `answer` keeps the purpose of the record's secure function: its parameters are used, its calls and
/// its returns are kept.
///
/// * Every function the record defines at its top is there, by name if the record's answer has several.
/// * At least as many of its parameters are used in the body as the record uses (renaming is free).
/// * If the record returns a value, so does the answer.
/// * At least half of the record's calls are made, by their last name; a call that a vulnerable version would
///   make in another way (`os.system` for `subprocess.run`) is made up for by any other call.
///
/// This is a floor under deleted behaviour, not a proof of function: tests are better wherever there are any.
pub fn intent_kept(record_secure: &Parsed, answer: &Parsed) -> bool {
    kept(&[record_secure], answer)
}

/// As [`intent_kept`] with every known version of the record: what only one of them does is not asked for.
pub(crate) fn kept(versions: &[&Parsed], answer: &Parsed) -> bool {
    let described: Vec<&[Function]> = versions.iter().map(|version| version.functions()).collect();
    let Some(asked) = described.first().and_then(|functions| main_function(functions, None)) else {
        // The record defines no function that could be recognised: any code passes.
        return !answer.leaves().is_empty();
    };
    let answers = answer.functions();
    let Some(given) = main_function(answers, Some(&asked.name)) else { return false };
    let Some(others) = described[1..]
        .iter()
        .map(|functions| main_function(functions, Some(&asked.name)))
        .collect::<Option<Vec<&Function>>>()
    else {
        return false;
    };
    let needed_parameters = versions
        .iter()
        .zip(std::iter::once(&asked).chain(&others))
        .map(|(version, function)| used_parameters(version, function))
        .min()
        .unwrap_or(0);
    let returns = asked.returns_value && others.iter().all(|other| other.returns_value);
    if (returns && !given.returns_value) || used_parameters(answer, given) < needed_parameters {
        return false;
    }
    let mut calls: HashSet<&str> = asked.calls.iter().map(|call| last_name(call)).collect();
    for other in &others {
        let theirs: HashSet<&str> = other.calls.iter().map(|call| last_name(call)).collect();
        calls.retain(|call| theirs.contains(call));
    }
    // An answer may spread its work over several functions.
    let made: HashSet<&str> =
        answers.iter().flat_map(|function| &function.calls).map(|call| last_name(call)).collect();
    let shared = calls.iter().filter(|call| made.contains(*call)).count();
    let instead = made.len() - made.iter().filter(|call| calls.contains(*call)).count();
    // A call made instead counts half, so that noise cannot stand in for what was asked.
    4 * shared + 2 * instead >= 2 * calls.len()
}

/// The function of this name, or the longest one that stands in no other function.
fn main_function<'a>(functions: &'a [Function], name: Option<&str>) -> Option<&'a Function> {
    let outer = crate::dead::outermost(functions);
    let named = name.and_then(|name| outer.iter().find(|function| function.name == name).copied());
    named.or_else(|| {
        outer.iter().max_by_key(|function| (function.span.len(), usize::MAX - function.span.start)).copied()
    })
}

/// How many parameters occur in the body, other than a method's receiver.
fn used_parameters(parsed: &Parsed, function: &Function) -> usize {
    let first = parsed.leaves().partition_point(|leaf| leaf.span.end <= function.body.start);
    let body: HashSet<&str> = parsed.leaves()[first..]
        .iter()
        .take_while(|leaf| leaf.span.start < function.body.end)
        .filter(|leaf| leaf.kind == LeafKind::Name)
        .filter_map(|leaf| leaf.span.text(parsed.text()))
        .collect();
    function
        .parameters
        .iter()
        .filter(|name| !matches!(name.as_str(), "self" | "cls") && body.contains(name.as_str()))
        .count()
}

fn last_name(call: &str) -> &str {
    call.rsplit(['.', '>', ':']).next().unwrap_or(call)
}
