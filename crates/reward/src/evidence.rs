//! What evidence is: a place in an answer, a sign, a weight and a reason.

use serde::{Deserialize, Serialize};
use vul2safe_code::Span;

/// Whether evidence speaks for an answer or against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// A secure pattern.
    Positive,
    /// A vulnerable pattern or a finding.
    Negative,
}

/// Where the knowledge behind a piece of evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The answer's own repair pair.
    Record,
    /// A pattern that holds for more than its own record: another record of the same weakness, or the own one
    /// with other string contents.
    Related,
    /// A static finding.
    Finding,
    /// A teacher's quote from the answer.
    Quote,
}

/// One piece of evidence in an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The rewarded bytes of the answer.
    pub span: Span,
    /// For or against.
    pub sign: Sign,
    /// w: its weight, finite and not negative.
    pub weight: f32,
    /// Where the knowledge comes from.
    pub origin: Origin,
    /// Index of the pattern in its [`crate::Patterns`], or of the finding in the findings passed in.
    pub pattern: usize,
    /// Why, for a person: "parameterised query (diff, record sven/12)".
    pub reason: String,
}

/// A static finding, as the reward takes it from an analyzer: always negative.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The dangerous expression in the answer.
    pub span: Span,
    /// w, by severity; chosen by the caller.
    pub weight: f32,
    /// Why, for a person.
    pub reason: String,
}
