//! What each role is asked, and the form of its answer.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vul2safe_llm::{EmbeddedPrompt, LlmError, PromptSet, StructuredAnswer};

/// The prompts of all roles, each from a file in `folder` or as embedded.
///
/// | name | role |
/// |---|---|
/// | `analyse` | the teacher explains a flaw |
/// | `repair` | the teacher proposes a repair |
/// | `criticise` | the critic tries to break it |
/// | `revise` | the teacher mends it |
/// | `judge` | a judge compares both sides |
/// | `requests` | the teacher writes implicit prompts |
///
/// # Errors
/// What is wrong with a file of the folder.
pub fn prompt_set(folder: Option<&Path>) -> Result<PromptSet, LlmError> {
    let embedded = [
        EmbeddedPrompt { name: "analyse", source: include_str!("../prompts/analyse.j2") },
        EmbeddedPrompt { name: "repair", source: include_str!("../prompts/repair.j2") },
        EmbeddedPrompt { name: "criticise", source: include_str!("../prompts/criticise.j2") },
        EmbeddedPrompt { name: "revise", source: include_str!("../prompts/revise.j2") },
        EmbeddedPrompt { name: "judge", source: include_str!("../prompts/judge.j2") },
        EmbeddedPrompt { name: "requests", source: include_str!("../prompts/requests.j2") },
    ];
    PromptSet::new(&embedded, folder)
}

/// The teacher's explanation of a flaw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AnalysisAnswer {
    /// What the weakness is: input, path, operation, consequence.
    pub explanation: String,
    /// CWE numbers such as `CWE-89`, the most exact one first.
    pub cwe: Vec<String>,
    /// Pieces of the code that carry the flaw, copied exactly.
    pub quotes: Vec<QuoteAnswer>,
}

/// A piece of code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct QuoteAnswer {
    /// The code, copied character by character.
    pub text: String,
    /// Why it is quoted, in one sentence.
    pub reason: String,
    /// Its weakness, such as `CWE-89`.
    #[serde(default)]
    pub cwe: Option<String>,
}

/// A repair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RepairAnswer {
    /// What makes the repair complete, and what stays as it is.
    pub plan: String,
    /// The whole repaired code.
    pub code: String,
}

/// A critic's findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CriticismAnswer {
    /// What was tried to break the repair.
    pub search: String,
    /// What breaks it; empty if nothing does.
    pub objections: Vec<Objection>,
    /// `sound` if nothing breaks it, else `broken`.
    pub verdict: CriticVerdict,
}

/// One way in which a repair fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Objection {
    /// What kind of failure it is.
    pub kind: ObjectionKind,
    /// The input or path, and what happens.
    pub claim: String,
    /// The place in the repaired code, copied character by character.
    pub quote: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ObjectionKind {
    WeaknessRemains,
    NewWeakness,
    BehaviourChanged,
    NotRunnable,
}

impl ObjectionKind {
    pub fn words(self) -> &'static str {
        match self {
            Self::WeaknessRemains => "the weakness remains",
            Self::NewWeakness => "a new weakness",
            Self::BehaviourChanged => "other behaviour",
            Self::NotRunnable => "cannot run",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CriticVerdict {
    Sound,
    Broken,
}

/// A judge's comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct JudgementAnswer {
    /// The input's way through each version.
    pub reasoning: String,
    /// Which versions have the weakness.
    pub weakness_in: Versions,
    /// Whether both versions do the same for legitimate input.
    pub same_behaviour: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Versions {
    First,
    Second,
    Both,
    Neither,
}

/// Requests for the function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RequestsAnswer {
    /// The requests.
    pub requests: Vec<RequestAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RequestAnswer {
    /// Its style.
    pub style: RequestStyle,
    /// The whole request.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestStyle {
    Docstring,
    PlainRequest,
    Issue,
    Refactor,
    TestDriven,
    ChatRole,
}

impl RequestStyle {
    pub fn name(self) -> &'static str {
        match self {
            Self::Docstring => "docstring",
            Self::PlainRequest => "plain_request",
            Self::Issue => "issue",
            Self::Refactor => "refactor",
            Self::TestDriven => "test_driven",
            Self::ChatRole => "chat_role",
        }
    }
}

pub(crate) fn analysis_form() -> StructuredAnswer {
    StructuredAnswer::with_check::<AnalysisAnswer>("analysis", |answer| {
        if answer.explanation.trim().is_empty() {
            return Err("`explanation` is empty".into());
        }
        Ok(())
    })
}

pub(crate) fn repair_form() -> StructuredAnswer {
    StructuredAnswer::with_check::<RepairAnswer>("repair", |answer| {
        if answer.code.trim().is_empty() {
            return Err("`code` is empty; it must hold the whole repaired code".into());
        }
        Ok(())
    })
}

pub(crate) fn criticism_form() -> StructuredAnswer {
    StructuredAnswer::with_check::<CriticismAnswer>("criticism", |answer| {
        match (answer.verdict, answer.objections.is_empty()) {
            (CriticVerdict::Sound, false) => Err("a `sound` repair has no objections".into()),
            (CriticVerdict::Broken, true) => {
                Err("a `broken` repair needs an objection with a quote of the repaired code".into())
            }
            _ => Ok(()),
        }
    })
}

pub(crate) fn judgement_form() -> StructuredAnswer {
    StructuredAnswer::of::<JudgementAnswer>("judgement")
}

pub(crate) fn requests_form() -> StructuredAnswer {
    StructuredAnswer::with_check::<RequestsAnswer>("requests", |answer| {
        if answer.requests.is_empty() {
            return Err("`requests` is empty".into());
        }
        Ok(())
    })
}
