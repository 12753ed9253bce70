//! What a function does: from its docstring, or from its name and calls.

use vul2safe_code::Function;

use super::effects::effects;
use super::verbs::VERBS;
use crate::Draft;
use crate::vocabulary::{name_parts, security_word};

/// Whether a prompt may say this.
pub(super) fn speakable(draft: &Draft, text: &str) -> bool {
    security_word(text).is_none() && !crate::draft::split_words(text).any(|word| draft.is_one_sided(word))
}

/// At most this many characters of a docstring are quoted.
const LONGEST_PURPOSE: usize = 220;

/// The first sentence of the docstring that may be said.
pub(super) fn documented_purpose(draft: &Draft, before: &Function, after: &Function) -> Option<String> {
    let docstring = before.docstring.as_deref().or(after.docstring.as_deref())?;
    summary(docstring)
        .split_inclusive(". ")
        .map(|sentence| sentence.trim_matches([' ', '.', '"', '\'']))
        .find(|sentence| {
            let words = sentence.split(' ').count();
            words >= 2 && sentence.chars().count() <= LONGEST_PURPOSE && speakable(draft, sentence)
        })
        // Go's comments begin with the function's name: "Find returns …".
        .map(|sentence| clause(sentence.strip_prefix(&format!("{} ", after.name)).unwrap_or(sentence)))
}

/// The first paragraph of a docstring on one line, without field lists and examples. A line without a full stop
/// before a line that starts with a capital letter is a sentence of its own.
fn summary(docstring: &str) -> String {
    let mut summary = String::new();
    for line in docstring.trim().lines().map(str::trim) {
        let is_field = line.starts_with([':', '@', '>', '-', '*'])
            || ["Args:", "Arguments:", "Parameters", "Returns:", "Raises:"]
                .iter()
                .any(|head| line.starts_with(head));
        if line.is_empty() || is_field {
            break;
        }
        if !summary.is_empty() {
            let ended = summary.ends_with(['.', ',', ';', ':', '-']);
            let capital = line.starts_with(|first: char| first.is_uppercase());
            summary.push_str(if !ended && capital { ". " } else { " " });
        }
        summary.push_str(&line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    summary
}

/// A sentence as a clause that can follow "should".
pub(super) fn clause(sentence: &str) -> String {
    let (first, rest) = sentence.split_once(' ').unwrap_or((sentence, ""));
    let lower = first.to_lowercase();
    let imperative =
        if VERBS.contains(&lower.as_str()) { Some(lower) } else { third_person(&lower).map(str::to_owned) };
    match imperative {
        Some(verb) => format!("{verb} {rest}").trim_end().to_owned(),
        None => format!("take care of this: {sentence}"),
    }
}

/// `returns` → `return`, `does` → `do`; nothing for words that are not verbs known here.
fn third_person(word: &str) -> Option<&'static str> {
    let stem = |ending: &str| word.strip_suffix(ending);
    VERBS
        .iter()
        .find(|verb| {
            stem("s") == Some(verb)
                || stem("es") == Some(verb)
                || (verb.ends_with('y') && stem("ies") == verb.strip_suffix('y'))
        })
        .copied()
}

/// The purpose of a function that no docstring describes: its name as words, and what its calls do.
pub(super) fn derived_purpose(draft: &Draft, before: &Function, after: &Function) -> String {
    let plain_name = after.name.rsplit("::").next().unwrap_or(&after.name);
    let words: Vec<String> = name_parts(plain_name).filter(|word| !draft.is_one_sided(word)).collect();
    let mut purpose = match words.first() {
        Some(first) if VERBS.contains(&first.as_str()) => words.join(" "),
        Some(_) => format!("handle {}", words.join(" ")),
        None => "do its work".to_owned(),
    };
    let effects = effects(draft, &before.calls, &after.calls);
    if !effects.is_empty() {
        purpose.push_str(", that is, ");
        purpose.push_str(&effects.join(" and "));
    }
    let gives = ["get", "return", "find", "fetch", "load", "read", "is", "has"];
    if after.returns_value && !words.first().is_some_and(|first| gives.contains(&first.as_str())) {
        let result = " and return the result";
        if speakable(draft, result) {
            purpose.push_str(result);
        }
    }
    purpose
}
