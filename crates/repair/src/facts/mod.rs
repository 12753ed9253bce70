//! What can be said of a function without a word on its flaw: its signature and its purpose.

mod detail;
mod effects;
mod fragment;
mod purpose;
mod verbs;

use vul2safe_code::{Function, Language};

use crate::Draft;
use crate::leaks::asked_parameters;
use detail::{Said, detail, failure};
use purpose::{derived_purpose, documented_purpose, speakable};

pub(crate) use fragment::Fragment;

/// Everything the wordings are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// As people write it: `Python`, `C++`.
    pub(crate) language: &'static str,
    /// `function`, `method` or `fragment`.
    pub(crate) noun: &'static str,
    /// `find(db, name)`, without `self`; in languages that declare types with the types, without which nobody can call it:
    /// `int copy(char *to, size_t size)`. Empty for a fragment.
    pub(crate) signature: String,
    /// The head of the definition as it stands in the code, e.g. `def find(db, name):`.
    pub(crate) header: String,
    /// What it does, as a clause after "should": `return the row of a customer`.
    pub(crate) purpose: String,
    /// Sentences that every wording ends with: one on what a function without a docstring works with, and one on how it
    /// fails, where there is something to say.
    pub(crate) detail: Option<String>,
    /// The start of the code up to the body, docstring included, where both sides share it.
    pub(crate) prefix: Option<String>,
    /// An assertion of the functional tests that stands on its own.
    pub(crate) example: Option<String>,
    /// Whether the code is Python (its docstring stands inside).
    pub(crate) python: bool,
    /// For code without a function: what goes in and what comes out.
    pub(crate) fragment: Option<Fragment>,
}

impl Facts {
    /// The facts of a pair's function; of the whole code where neither side has one; nothing where there is nothing to
    /// say.
    pub(crate) fn of(draft: &Draft) -> Option<Self> {
        if draft.is_fragment() {
            return fragment::facts(draft);
        }
        let (before, after) = (draft.function_before.as_ref()?, draft.function_after.as_ref()?);
        if after.name.is_empty() {
            return None;
        }
        let (purpose, documented) = match documented_purpose(draft, before, after) {
            Some(purpose) => (purpose, true),
            None => (derived_purpose(draft, before, after), false),
        };
        Some(Self {
            language: draft.record.language.title(),
            noun: if after.is_method { "method" } else { "function" },
            signature: signature(draft, before, after),
            header: after.signature.text(&draft.secure).unwrap_or_default().trim().to_owned(),
            purpose,
            detail: joined(
                if documented { None } else { detail(draft, &said(before), &said(after)) },
                failure(draft, &before.statements, &after.statements),
            ),
            prefix: common_prefix(draft, before),
            example: example(draft, &after.name),
            python: draft.record.language == Language::Python,
            fragment: None,
        })
    }
}

fn said(function: &Function) -> Said<'_> {
    Said { comments: &function.comments, calls: &function.calls }
}

fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one} {other}")),
        (one, other) => one.or(other),
    }
}

/// Longer heads do not fit into a sentence.
const LONGEST_SIGNATURE: usize = 160;

/// What a declaration may begin with that says nothing to a caller.
const MODIFIERS: [&str; 10] = [
    "static",
    "inline",
    "extern",
    "public",
    "private",
    "protected",
    "final",
    "abstract",
    "synchronized",
    "native",
];

/// How a request names the function. Types are left out where the sides differ in them, as another type may be the whole
/// repair, and in JavaScript, where a definition takes many forms.
fn signature(draft: &Draft, before: &Function, after: &Function) -> String {
    let language = draft.record.language;
    let declared = |text: &str, function: &Function| -> Option<String> {
        let words = function.signature.text(text)?.split_whitespace();
        let asked = words.filter(|word| !MODIFIERS.contains(word));
        Some(asked.collect::<Vec<_>>().join(" "))
    };
    let typed = declared(&draft.secure, after).filter(|typed| {
        !matches!(language, Language::Python | Language::JavaScript)
            && !typed.is_empty()
            && typed.len() <= LONGEST_SIGNATURE
            && declared(&draft.record.vulnerable, before).as_ref() == Some(typed)
    });
    typed.unwrap_or_else(|| {
        let sign = if language == Language::Php { "$" } else { "" };
        let parameters: Vec<String> = asked_parameters(after).map(|name| format!("{sign}{name}")).collect();
        format!("{}({})", after.name, parameters.join(", "))
    })
}

/// Longer prefixes would be the code rather than a start.
const LONGEST_PREFIX: usize = 600;

/// The code of both sides up to the function's body, its docstring included, when both share it.
fn common_prefix(draft: &Draft, function: &Function) -> Option<String> {
    let text = draft.before.text();
    let mut end = function.signature.end;
    if draft.record.language == Language::Python {
        let docstring = function.statements.first().filter(|first| {
            let starts = first
                .text(text)
                .is_some_and(|text| text.trim_start_matches(['r', 'u']).starts_with(['"', '\'']));
            function.docstring.is_some() && starts
        });
        if let Some(docstring) = docstring {
            end = docstring.end;
        }
    } else {
        end = function.body.start + 1;
    }
    let line_end = text.get(end..)?.find('\n').map(|newline| end + newline + 1)?;
    if !text[end..line_end].trim_matches([':', ' ', '\t', '\r', '\n']).is_empty() {
        return None;
    }
    let prefix = &text[..line_end];
    (prefix.len() <= LONGEST_PREFIX && draft.secure.starts_with(prefix)).then(|| prefix.to_owned())
}

/// Words that an assertion may use and still stand on its own.
const SELF_CONTAINED: &[&str] = &[
    "assert",
    "answer",
    "True",
    "False",
    "None",
    "in",
    "is",
    "not",
    "and",
    "or",
    "len",
    "str",
    "int",
    "list",
    "dict",
    "set",
    "sorted",
    "isinstance",
    "startswith",
    "endswith",
    "strip",
];

/// An assertion of the functional tests with nothing but literals in it.
fn example(draft: &Draft, name: &str) -> Option<String> {
    let tests = &draft.record.tests.as_ref()?.functional;
    let call = format!("answer.{name}(");
    tests
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("assert ") && line.contains(&call) && line.len() <= 100)
        .find(|line| {
            let mut quote = None;
            let bare: String = line
                .chars()
                .map(|character| match quote {
                    Some(open) if character == open => {
                        quote = None;
                        ' '
                    }
                    Some(_) => ' ',
                    None if character == '"' || character == '\'' => {
                        quote = Some(character);
                        ' '
                    }
                    None => character,
                })
                .collect();
            crate::draft::split_words(&bare).all(|word| {
                word == name
                    || SELF_CONTAINED.contains(&word)
                    || word.chars().all(|character| character.is_ascii_digit() || character == '_')
            })
        })
        .map(|line| line.replace("answer.", ""))
        .filter(|line| speakable(draft, line))
}
