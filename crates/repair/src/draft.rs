//! A repair under examination: both sides parsed, compared and described once, for all checks and prompts.

use std::collections::HashSet;

use vul2safe_analyze::{Finding, analyze};
use vul2safe_code::{Function, Hunk, LeafKind, ParseError, Parsed, diff_leaves, parse_excerpt};
use vul2safe_corpus::VulnerabilityRecord;

use crate::Proposal;
use crate::vocabulary::name_parts;

/// A record together with one proposal.
pub struct Draft {
    /// The record.
    pub record: VulnerabilityRecord,
    /// The repaired text.
    pub secure: String,
    /// Who repaired it.
    pub by: String,
    /// Rounds so far, from 1.
    pub rounds: u32,
    pub(crate) before: Parsed,
    pub(crate) after: Parsed,
    pub(crate) hunks: Vec<Hunk>,
    pub(crate) findings_before: Vec<Finding>,
    pub(crate) findings_after: Vec<Finding>,
    /// The function the record is about, on both sides.
    pub(crate) function_before: Option<Function>,
    pub(crate) function_after: Option<Function>,
    /// Lower-case names that stand in the code of one side and nowhere in the other.
    pub(crate) one_sided: HashSet<String>,
}

impl Draft {
    /// Parses and compares both sides.
    ///
    /// # Errors
    /// When a side is too long for the parser.
    pub fn new(record: &VulnerabilityRecord, proposal: &Proposal, rounds: u32) -> Result<Self, ParseError> {
        let before = parse_excerpt(record.language, &record.vulnerable)?;
        let after = parse_excerpt(record.language, &proposal.secure)?;
        let hunks = diff_leaves(&before, &after);
        let (functions_before, functions_after) = (before.functions(), after.functions());
        let name =
            main_function(functions_before, record.function.as_deref()).map(|function| function.name.clone());
        let function_before = main_function(functions_before, name.as_deref()).cloned();
        let function_after = main_function(functions_after, name.as_deref()).cloned();
        let mut one_sided = one_sided_names(&before, &after);
        // A function `get_user` may be asked to "get a user", whatever one side calls its variables.
        if let (Some(before), Some(after)) = (&function_before, &function_after)
            && before.name == after.name
        {
            for part in name_parts(&after.name) {
                one_sided.remove(&part);
            }
        }
        Ok(Self {
            record: record.clone(),
            secure: proposal.secure.clone(),
            by: proposal.by.clone(),
            rounds,
            findings_before: analyze(&before),
            findings_after: analyze(&after),
            before,
            after,
            hunks,
            function_before,
            function_after,
            one_sided,
        })
    }

    /// What was proposed.
    pub(crate) fn proposal(&self) -> Proposal {
        Proposal { secure: self.secure.clone(), by: self.by.clone() }
    }

    /// Whether neither side has a function: then the whole code is what is asked for.
    pub(crate) fn is_fragment(&self) -> bool {
        self.function_before.is_none() && self.function_after.is_none()
    }

    /// What a prompt has to name: the function, the parts of its name, and its parameters.
    pub fn described_names(&self) -> impl Iterator<Item = &str> {
        let function = self.function_after.as_ref();
        let names = function.into_iter().flat_map(|function| {
            std::iter::once(&function.name).chain(&function.parameters).map(String::as_str)
        });
        names.flat_map(|name| std::iter::once(name).chain(split_words(name)).chain(name.split('_')))
    }

    /// Whether a word, taken as a name, tells the sides apart.
    pub(crate) fn is_one_sided(&self, word: &str) -> bool {
        word.len() >= 3 && self.one_sided.contains(&word.to_lowercase())
    }
}

/// The function with the wanted name, else the first that is not nested in another.
fn main_function<'f>(functions: &'f [Function], wanted: Option<&str>) -> Option<&'f Function> {
    let named = wanted.and_then(|wanted| functions.iter().find(|function| function.name == wanted));
    named.or_else(|| functions.first())
}

/// Names in the code of one side that the other side's text does not hold as a word anywhere, docstrings and strings
/// included: a word that both sides show cannot give the fix away.
fn one_sided_names(before: &Parsed, after: &Parsed) -> HashSet<String> {
    let names = |parsed: &Parsed| -> HashSet<String> {
        parsed
            .leaves()
            .iter()
            .enumerate()
            .filter(|(_, leaf)| matches!(leaf.kind, LeafKind::Name | LeafKind::Attribute))
            .map(|(index, _)| parsed.leaf_text(index).to_lowercase())
            .collect()
    };
    let (words_before, words_after) = (words(before.text()), words(after.text()));
    let mut one_sided: HashSet<String> =
        names(before).into_iter().filter(|name| !words_after.contains(name)).collect();
    one_sided.extend(names(after).into_iter().filter(|name| !words_before.contains(name)));
    one_sided
}

/// The identifier-like words of a text, in lower case.
pub(crate) fn words(text: &str) -> HashSet<String> {
    split_words(text).map(str::to_lowercase).collect()
}

/// Identifier-like words: runs of letters, digits and underscores.
pub(crate) fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_alphanumeric() || character == '_'))
        .filter(|word| !word.is_empty())
}
