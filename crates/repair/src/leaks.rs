//! Leak checks: an implicit prompt asks for the function and gives nothing of the flaw or the fix away.

use std::collections::HashSet;

use vul2safe_code::{Function, Parsed, Span, is_statement_kind};

use crate::Draft;
use crate::draft::split_words;
use crate::facts::Facts;
use crate::vocabulary::{content_words, security_word};

/// One check on one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakCheck {
    /// Its name, as stored with the prompt.
    pub name: &'static str,
    /// Whether the prompt passed.
    pub passed: bool,
    /// What was found, in words; empty when it passed.
    pub detail: String,
}

/// Makes all leak checks on a prompt (with its prefix, where it has one).
///
/// | name | the prompt … |
/// |---|---|
/// | `no_security_vocabulary` | uses no word of security |
/// | `no_cwe` | names no CWE, CVE or weakness |
/// | `no_one_sided_api` | uses no name that stands in the code of one side only |
/// | `describes_parameters` | names every parameter; of a fragment, the variables it needs (the first four) |
/// | `describes_effect` | says what the function does, beyond its signature |
/// | `not_the_code` | holds no statement of the repaired side |
pub fn leak_checks(prompt: &str, pair: &Draft) -> Vec<LeakCheck> {
    vec![
        check("no_security_vocabulary", security_word(prompt).map(|word| format!("says `{word}`"))),
        check("no_cwe", names_weakness(prompt, pair)),
        check("no_one_sided_api", one_sided(prompt, pair)),
        check("describes_parameters", missing_parameter(prompt, pair)),
        check("describes_effect", missing_effect(prompt, pair)),
        check("not_the_code", quoted_statement(prompt, pair)),
    ]
}

fn check(name: &'static str, problem: Option<String>) -> LeakCheck {
    LeakCheck { name, passed: problem.is_none(), detail: problem.unwrap_or_default() }
}

fn names_weakness(prompt: &str, pair: &Draft) -> Option<String> {
    let lower = prompt.to_lowercase();
    let number = lower
        .split(|character: char| !character.is_alphabetic())
        .find(|word| ["cwe", "cwes", "cve", "cves"].contains(word));
    if let Some(word) = number {
        return Some(format!("says `{word}`"));
    }
    pair.record
        .cwe
        .iter()
        .filter_map(|cwe| cwe.name())
        .find(|name| name.len() >= 8 && lower.contains(&name.to_lowercase()))
        .map(|name| format!("names the weakness `{name}`"))
}

fn one_sided(prompt: &str, pair: &Draft) -> Option<String> {
    split_words(prompt)
        .find(|word| pair.is_one_sided(word))
        .map(|word| format!("`{word}` stands in the code of one side only"))
}

fn missing_parameter(prompt: &str, pair: &Draft) -> Option<String> {
    let words: Vec<&str> = split_words(prompt).collect();
    if pair.is_fragment() {
        return needed_names(pair)
            .into_iter()
            .find(|name| !words.contains(&name.as_str()))
            .map(|name| format!("does not name `{name}`, which the code needs"));
    }
    let Some(function) = &pair.function_after else { return Some("there is no function".into()) };
    asked_parameters(function)
        .find(|parameter| !words.contains(parameter))
        .map(|parameter| format!("does not name the parameter `{parameter}`"))
}

/// The variables that a fragment needs, as far as a prompt has to name them; without dollar signs.
pub(crate) fn needed_names(pair: &Draft) -> Vec<String> {
    let inputs = Facts::of(pair).and_then(|facts| facts.fragment).map(|fragment| fragment.inputs);
    inputs.unwrap_or_default().iter().map(|name| name.trim_start_matches('$').to_owned()).collect()
}

/// The parameters a caller gives.
pub(crate) fn asked_parameters(function: &Function) -> impl Iterator<Item = &str> {
    function.parameters.iter().map(String::as_str).filter(|name| !matches!(*name, "self" | "cls"))
}

/// How many different words on the effect a prompt must hold.
const EFFECT_WORDS: usize = 2;

fn missing_effect(prompt: &str, pair: &Draft) -> Option<String> {
    let Some(facts) = Facts::of(pair) else { return Some("there is nothing to ask for".into()) };
    let mut known: HashSet<String> = content_words(&facts.purpose).collect();
    known.extend(facts.detail.iter().flat_map(|detail| content_words(detail)));
    // An empty pattern would be found everywhere.
    let named = [&facts.signature, &facts.header];
    let rest = named
        .into_iter()
        .filter(|text| !text.is_empty())
        .fold(prompt.to_owned(), |rest, text| rest.replace(text.as_str(), " "));
    let said: HashSet<String> = content_words(&rest).filter(|word| known.contains(word)).collect();
    (said.len() < EFFECT_WORDS)
        .then(|| format!("says {} of {EFFECT_WORDS} words on what it does", said.len()))
}

/// All statements of a fragment.
pub(crate) fn statements(parsed: &Parsed) -> Vec<Span> {
    let mut spans = Vec::new();
    Parsed::walk(parsed.root(), |node| {
        if is_statement_kind(node.kind()) {
            spans.push(Span::from(node.byte_range()));
        }
        true
    });
    spans
}

/// Shorter statements (`i = 0`) can stand in prose by chance.
const SHORTEST_STATEMENT: usize = 12;

fn quoted_statement(prompt: &str, pair: &Draft) -> Option<String> {
    let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let prompt = normal(prompt);
    let statements = match &pair.function_after {
        Some(function) => function.statements.clone(),
        None => statements(&pair.after),
    };
    statements
        .iter()
        .filter_map(|statement| statement.text(&pair.secure))
        .map(normal)
        .filter(|statement| {
            let is_code = statement.contains(['(', '=', '[', '{', ';', '.']);
            let is_docstring = statement.starts_with(['"', '\'']) || statement.starts_with("r\"");
            statement.len() >= SHORTEST_STATEMENT && is_code && !is_docstring
        })
        .find(|statement| prompt.contains(statement.as_str()))
        .map(|statement| format!("holds the statement `{}`", statement.chars().take(60).collect::<String>()))
}
