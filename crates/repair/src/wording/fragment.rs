//! The wordings for code without a function.

use super::capitalised;
use crate::facts::{Facts, Fragment};

/// `` `$db` and `$name` ``.
fn listed(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A sentence on what is there and what is wanted; nothing where nothing is known.
fn surroundings(fragment: &Fragment) -> String {
    match (listed(&fragment.inputs), listed(&fragment.results)) {
        (inputs, results) if inputs.is_empty() && results.is_empty() => String::new(),
        (inputs, results) if results.is_empty() => format!(" {inputs} can be used."),
        (inputs, results) if inputs.is_empty() => format!(" It sets {results}."),
        (inputs, results) => format!(" {inputs} can be used; {results} should be set."),
    }
}

pub(super) fn docstring(facts: &Facts, fragment: &Fragment) -> Vec<String> {
    let mut comment = format!("{}.", capitalised(&facts.purpose));
    if let Some(detail) = &facts.detail {
        comment.push(' ');
        comment.push_str(detail);
    }
    let comment = if facts.python { format!("# {comment}") } else { format!("// {comment}") };
    let (language, around) = (facts.language, surroundings(fragment));
    [
        format!("Write the {language} code for this comment.{around}"),
        format!("What code belongs below this comment?{around}"),
        format!("Turn the comment into {language}.{around}"),
        format!("Here is a comment; the {language} code that it describes is missing.{around}"),
    ]
    .map(|start| format!("{start}\n\n{comment}"))
    .into()
}

pub(super) fn completion_prefix(facts: &Facts, fragment: &Fragment) -> Vec<String> {
    let Facts { language, purpose, .. } = facts;
    let around = surroundings(fragment);
    vec![
        format!("Complete this {language} code. It should {purpose}.{around}"),
        format!("Go on with the code below. It has to {purpose}.{around}"),
        format!("Finish what is begun here, which should {purpose}.{around}"),
        format!("Continue this {language} code so that it will {purpose}.{around}"),
    ]
}

pub(super) fn plain_request(facts: &Facts, fragment: &Fragment) -> Vec<String> {
    let Facts { language, purpose, .. } = facts;
    let around = surroundings(fragment);
    vec![
        format!("Write {language} code to {purpose}.{around}"),
        format!("I need a few lines of {language} that {}.{around}", third(purpose)),
        format!("Please write a piece of {language} which should {purpose}.{around}"),
        format!("How do I {purpose} in {language}?{around}"),
    ]
}

pub(super) fn issue(facts: &Facts, fragment: &Fragment) -> Vec<String> {
    let Facts { language, purpose, .. } = facts;
    let around = surroundings(fragment);
    vec![
        format!("Issue: this place in our {language} code does nothing yet. It should {purpose}.{around}"),
        format!("Ticket: add the code to {purpose}.{around} The language is {language}."),
        format!("Open task ({language}): {purpose}.{around}"),
        format!("Feature request: here the {language} script ought to {purpose}.{around}"),
    ]
}

pub(super) fn refactor(facts: &Facts, fragment: &Fragment) -> Vec<String> {
    let Facts { language, purpose, .. } = facts;
    let around = surroundings(fragment);
    vec![
        format!("Rewrite this part of a {language} file: it has to {purpose}.{around}"),
        format!("The old {language} code here is hard to read. Write it anew; it must {purpose}.{around}"),
        format!("Clean up the lines that {}.{around} It is {language}.", third(purpose)),
        format!("We replace some {language} code. The new code should {purpose}, like the old one.{around}"),
    ]
}

pub(super) fn test_driven(facts: &Facts, fragment: &Fragment) -> Vec<String> {
    let Facts { language, purpose, .. } = facts;
    let around = surroundings(fragment);
    vec![
        format!("Our tests run this piece of {language} and expect it to {purpose}. Write it.{around}"),
        format!("Make the tests pass: the {language} code must {purpose}.{around}"),
        format!("The test suite wants some {language} to {purpose}.{around} Implement it."),
        format!("Tests first: the code has to {purpose}.{around} Now write it in {language}."),
    ]
}

pub(super) fn chat_role(facts: &Facts, fragment: &Fragment) -> Vec<String> {
    let Facts { language, purpose, .. } = facts;
    let around = surroundings(fragment);
    vec![
        format!("You are a {language} developer. A colleague asks for code to {purpose}.{around}"),
        format!("You are a helpful coding assistant. Write some {language} to {purpose}.{around}"),
        format!("You maintain this {language} file. Add the lines to {purpose}.{around}"),
        format!("Act as an experienced {language} programmer: I want the code to {purpose}.{around}"),
    ]
}

/// `read data and commit` as `do this: read data and commit`, for places that want a verb in the third person.
fn third(purpose: &str) -> String {
    format!("do this: {purpose}")
}
