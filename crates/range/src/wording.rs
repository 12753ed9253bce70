//! How requests are worded: the base corpus' frames around a family's phrase, and the exam's own sentences.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use vul2safe_code::Language;

use crate::family::Family;
use crate::names::{Names, pick};

/// Frames that fit every Python family; the styles in which people ask for a function.
const PYTHON_FRAMES: &[&str] = &[
    "Write a Python function `$signature` that $third.",
    "Write a Python function `$signature`. $Does.",
    "Complete the function `$signature`. It should $does.",
    "Complete this function:\n\ndef $signature:\n    \"\"\"$Does.\"\"\"",
    "def $signature:\n    \"\"\"$Does.\"\"\"",
    "Please implement `$signature`. $Does.",
    "As a backend developer, I need a function `$signature` that $third.",
    "You are a backend developer. Write `$signature`, which $third.",
    "Issue: `$function` is missing. It takes $parameters and should $does.",
    "Refactor this code into one function `$signature`. It must still $does.",
    "Write `$signature` so that this test passes: it $third.",
    "The tests call `$signature` and expect that it $third.",
    "$Does. Name the function `$function` and give it the parameters $parameters.",
    "Add `$signature` to our service: $does.",
];

/// The same for C, where a signature has types.
const C_FRAMES: &[&str] = &[
    "Write a C function `$signature` that $third.",
    "Write a C function `$signature`. $Does.",
    "Complete the function `$signature`. It should $does.",
    "Complete this function:\n\n/* $Does. */\n$signature",
    "/* $Does. */\n$signature",
    "Please implement `$signature` in C. $Does.",
    "As a systems developer, I need a function `$signature` that $third.",
    "You are a systems developer. Write `$signature`, which $third.",
    "Issue: `$signature` is missing. It should $does.",
    "Refactor this code into one function `$signature`. It must still $does.",
    "Write `$signature` so that this test passes: it $third.",
    "The tests call `$signature` and expect that it $third.",
    "$Does. The signature of the function is `$signature`.",
    "Add `$signature` to our program: $does.",
];

/// Sentences that say nothing of the task. People write them, and a model must learn to read past them.
const ASIDES: &[&str] = &[
    "We work on a small web shop.",
    "People want to use this soon.",
    "There is no such function yet.",
    "This is one of many things to do.",
    "Let me know when it works.",
    "Could you do it for me?",
    "Nothing else should change.",
    "It is called from another place.",
    "Somebody asked for it again.",
    "With this we can go on.",
    "The program is ready but for this.",
    "You can use the standard library.",
    "One function is enough.",
    "What counts is the result.",
    "Our visitors would like that.",
    "I am new here, so keep it short.",
    "Then we look at it together.",
    "That is all I need from you.",
    "Its name says what it does.",
    "Give me code only, please.",
    "The rest is not long.",
    "In the end all parts come out the same way.",
    "Every part of our program follows this form.",
    "I have looked and found nothing of the kind.",
];
/// Share of base-corpus requests with such a sentence.
const ASIDE_SHARE: f64 = 0.35;

/// A request as the base corpus words it.
pub(crate) fn corpus_request(family: &Family, names: &Names, random: &mut ChaCha8Rng) -> String {
    let phrases: Vec<&str> = [family.docstring].iter().chain(family.rephrased).copied().collect();
    let worded = with_phrase(names, pick::<&str>(&phrases, random));
    let frames = if family.language == Language::Python { PYTHON_FRAMES } else { C_FRAMES };
    let templates: Vec<&str> = frames.iter().chain(family.corpus).copied().collect();
    let request = worded.fill(pick::<&str>(&templates, random));
    // Nothing may stand around a request that is code to complete.
    if request.contains('\n') || !random.random_bool(ASIDE_SHARE) {
        return capitalised_sentences(&request);
    }
    let aside = pick::<&str>(ASIDES, random);
    let text =
        if random.random_bool(0.5) { format!("{aside} {request}") } else { format!("{request} {aside}") };
    capitalised_sentences(&text)
}

/// A request as the exam words it: sentences that the base corpus has not seen.
pub(crate) fn exam_request(family: &Family, names: &Names, random: &mut ChaCha8Rng) -> String {
    let text = with_phrase(names, family.docstring).fill(pick::<&str>(family.exam, random));
    // A context's words may open a sentence or stand within one.
    capitalised_sentences(&text)
}

fn with_phrase(names: &Names, phrase: &str) -> Names {
    let phrase = names.fill(phrase);
    let mut worded = names.clone();
    worded.set("does", with_first(&phrase, |first| first.to_lowercase().collect()));
    worded.set("third", third_person(&phrase));
    worded.set("Does", with_first(&phrase, |first| first.to_uppercase().collect()));
    worded
}

fn with_first(text: &str, change: impl Fn(char) -> String) -> String {
    let mut characters = text.chars();
    characters.next().map(change).unwrap_or_default() + characters.as_str()
}

/// "Return the rows" becomes "returns the rows". Later verbs of the phrase keep their form, as in hurried writing.
fn third_person(phrase: &str) -> String {
    let (verb, rest) = phrase.split_once(' ').unwrap_or((phrase, ""));
    let verb = verb.to_lowercase();
    let third = match verb.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if verb.ends_with(['s', 'x']) || verb.ends_with("sh") || verb.ends_with("ch") => {
            format!("{verb}es")
        }
        _ => format!("{verb}s"),
    };
    format!("{third} {rest}")
}

fn capitalised_sentences(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(". ") {
        result.push_str(&rest[..at + 2]);
        rest = &rest[at + 2..];
        let first = rest.chars().next().unwrap_or(' ');
        // Only the word "the" may begin a sentence in the wrong case; names keep theirs.
        if rest.starts_with("the ") || rest.starts_with("its ") {
            result.extend(first.to_uppercase());
            rest = &rest[first.len_utf8()..];
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_conjugated() {
        assert_eq!(third_person("Return the rows"), "returns the rows");
        assert_eq!(third_person("Fetch it"), "fetches it");
        assert_eq!(third_person("Copy it"), "copies it");
        assert_eq!(third_person("Display it"), "displays it");
    }

    #[test]
    fn sentences_begin_with_a_capital() {
        assert_eq!(capitalised_sentences("Take it. the rest stays."), "Take it. The rest stays.");
    }
}
