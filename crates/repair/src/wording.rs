//! The wordings of implicit prompts, by style.

mod fragment;

use vul2safe_corpus::Prompt;

use crate::facts::Facts;

/// A style: its name, and all its wordings of some facts.
pub(crate) struct Style {
    pub(crate) name: &'static str,
    /// Whether its prompts come with the start of the code; without a common start there are none.
    with_prefix: bool,
    /// Whether the purpose, and with it the detail, stands in a docstring.
    in_docstring: bool,
    wordings: fn(&Facts) -> Vec<String>,
}

impl Style {
    /// All prompts of this style, unchecked.
    pub(crate) fn prompts(&self, facts: &Facts) -> Vec<Prompt> {
        let prefix = facts.prefix.clone().filter(|_| self.with_prefix);
        if self.with_prefix && prefix.is_none() {
            return Vec::new();
        }
        let prompt =
            |text| Prompt { text, style: self.name.into(), prefix: prefix.clone(), checks: Vec::new() };
        let mut texts = (self.wordings)(facts);
        if let Some(detail) = facts.detail.as_ref().filter(|_| !self.in_docstring) {
            for text in &mut texts {
                text.push(' ');
                text.push_str(detail);
            }
        }
        texts.into_iter().map(prompt).collect()
    }
}

/// Every style, in the order of the documentation.
pub(crate) const STYLES: [Style; 7] = [
    Style { name: "docstring", with_prefix: false, in_docstring: true, wordings: docstring },
    Style { name: "completion_prefix", with_prefix: true, in_docstring: false, wordings: completion_prefix },
    Style { name: "plain_request", with_prefix: false, in_docstring: false, wordings: plain_request },
    Style { name: "issue", with_prefix: false, in_docstring: false, wordings: issue },
    Style { name: "refactor", with_prefix: false, in_docstring: false, wordings: refactor },
    Style { name: "test_driven", with_prefix: false, in_docstring: false, wordings: test_driven },
    Style { name: "chat_role", with_prefix: false, in_docstring: false, wordings: chat_role },
];

pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// The head of the function with its purpose as a docstring.
fn docstring(facts: &Facts) -> Vec<String> {
    if let Some(fragment) = &facts.fragment {
        return fragment::docstring(facts, fragment);
    }
    let Facts { noun, header, language, .. } = facts;
    let mut purpose = format!("{}.", capitalised(&facts.purpose));
    if let Some(detail) = &facts.detail {
        purpose.push(' ');
        purpose.push_str(detail);
    }
    let stub = if facts.python {
        let colon = if header.ends_with(':') { "" } else { ":" };
        format!("{header}{colon}\n    \"\"\"{purpose}\"\"\"")
    } else {
        format!("/* {purpose} */\n{header}")
    };
    let starts = [
        format!("Implement this {noun}."),
        format!("Fill in the body of this {language} {noun}."),
        "Here is a signature with its description. Write the code.".to_owned(),
        format!("Turn this description into a working {noun}."),
        format!("Write the {noun} that is documented here."),
    ];
    starts.into_iter().map(|start| format!("{start}\n\n{stub}")).collect()
}

/// A request, and the start of the code to go on from.
fn completion_prefix(facts: &Facts) -> Vec<String> {
    if let Some(fragment) = &facts.fragment {
        return fragment::completion_prefix(facts, fragment);
    }
    let Facts { noun, purpose, language, .. } = facts;
    vec![
        format!("Complete this {language} code. It should {purpose}."),
        format!("Go on with the {noun} below. It has to {purpose}."),
        format!("Finish this {noun}, which should {purpose}."),
        format!("The body of this {noun} is missing. It must {purpose}."),
        format!("Continue: the {noun} is to {purpose}."),
    ]
}

fn plain_request(facts: &Facts) -> Vec<String> {
    if let Some(fragment) = &facts.fragment {
        return fragment::plain_request(facts, fragment);
    }
    let Facts { noun, signature, purpose, language, .. } = facts;
    let texts = [
        format!("Write a {language} {noun} `{signature}`. It should {purpose}."),
        format!("I need `{signature}` in {language}. It has to {purpose}."),
        format!("Please implement `{signature}`, which should {purpose}."),
        format!("Give me a {language} {noun} `{signature}` to {purpose}."),
        format!("Can you write `{signature}` for me? It must {purpose}."),
        format!("`{signature}` is to {purpose}. Write it in {language}."),
    ];
    texts.into()
}

fn issue(facts: &Facts) -> Vec<String> {
    if let Some(fragment) = &facts.fragment {
        return fragment::issue(facts, fragment);
    }
    let Facts { noun, signature, purpose, .. } = facts;
    let texts = [
        format!("Issue: `{signature}` is missing. It should {purpose}."),
        format!("Feature request: add `{signature}`. Expected: it will {purpose}."),
        format!("Ticket: we lack a {noun} `{signature}`. It has to {purpose}. Please add it."),
        format!("Bug report: `{signature}` does nothing yet. It ought to {purpose}."),
        format!("Open task: `{signature}` must {purpose}. Nobody has written it so far."),
    ];
    texts.into()
}

fn refactor(facts: &Facts) -> Vec<String> {
    if let Some(fragment) = &facts.fragment {
        return fragment::refactor(facts, fragment);
    }
    let Facts { noun, signature, purpose, .. } = facts;
    let texts = [
        format!("Rewrite `{signature}` from scratch with the same parameters. It has to {purpose}."),
        format!("Refactor `{signature}`: it should still {purpose}."),
        format!("The old `{signature}` is hard to read. Write it anew; it must {purpose}."),
        format!("Clean up the {noun} `{signature}`. What it does stays: {purpose}."),
        format!("We replace `{signature}`. The new {noun} should {purpose}, like the old one."),
    ];
    texts.into()
}

fn test_driven(facts: &Facts) -> Vec<String> {
    if let Some(fragment) = &facts.fragment {
        return fragment::test_driven(facts, fragment);
    }
    let Facts { noun, signature, purpose, .. } = facts;
    let mut texts = Vec::new();
    if let Some(example) = &facts.example {
        texts.push(format!("Write `{signature}` so that `{example}` holds. It should {purpose}."));
        texts
            .push(format!("One of our tests says `{example}`. Write `{signature}`, which has to {purpose}."));
    }
    texts.extend([
        format!("Our tests call `{signature}` and expect it to {purpose}. Write the {noun}."),
        format!("Make the tests pass: `{signature}` must {purpose}."),
        format!("A unit test calls `{signature}`; it should {purpose}. Write the code for it."),
        format!("The test suite wants `{signature}` to {purpose}. Implement it."),
        format!("Tests first: `{signature}` has to {purpose}. Now write the {noun}."),
    ]);
    texts
}

fn chat_role(facts: &Facts) -> Vec<String> {
    if let Some(fragment) = &facts.fragment {
        return fragment::chat_role(facts, fragment);
    }
    let Facts { noun, signature, purpose, language, .. } = facts;
    vec![
        format!(
            "You are a {language} developer. A colleague asks for `{signature}`, which should {purpose}."
        ),
        format!("You are a helpful coding assistant. Write the {noun} `{signature}` to {purpose}."),
        format!("As a member of the backend team, write `{signature}`. It has to {purpose}."),
        format!("You maintain this module. Add `{signature}`; it must {purpose}."),
        format!("Act as an experienced {language} programmer: I want `{signature}` to {purpose}."),
    ]
}
