//! What can go wrong while evidence is found and turned into rewards.

use vul2safe_code::Span;

/// A reward that could not be computed. The answer is then unscored: never 0, never "secure".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RewardError {
    /// One side of a repair pair is no text that can be parsed.
    #[error("record {record}: the {side} side cannot be parsed: {why}")]
    Side {
        /// Id of the repair pair.
        record: String,
        /// `secure` or `vulnerable`.
        side: &'static str,
        /// What the parser said.
        why: String,
    },
    /// A labelled span of a repair pair lies outside its text or covers no leaf token.
    #[error("record {record}: span {start}..{end} of the {side} side covers no code", start = span.start, end = span.end)]
    LabelledSpan {
        /// Id of the repair pair.
        record: String,
        /// `secure` or `vulnerable`.
        side: &'static str,
        /// The span as it stands in the record.
        span: Span,
    },
    /// There is no token that could carry a reward.
    #[error("the answer has no tokens, so no reward can be placed")]
    NoTokens,
    /// A token's byte range is reversed, ends outside the answer's text, or starts before its predecessor.
    #[error(
        "token {index} covers bytes {start}..{end}, which is no range of an answer of {length} bytes in reading order"
    )]
    Token {
        /// Position among the response tokens.
        index: usize,
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// Bytes in the answer.
        length: usize,
    },
    /// Evidence that no token covers: its span is empty, or outside what the tokens cover.
    #[error("evidence at bytes {start}..{end} ({reason}) covers no token of the answer", start = span.start, end = span.end)]
    EvidenceWithoutToken {
        /// Where the evidence claims to be.
        span: Span,
        /// Why it is evidence.
        reason: String,
    },
    /// A weight that is negative, infinite or not a number.
    #[error("evidence at bytes {start}..{end} ({reason}) has weight {weight}", start = span.start, end = span.end)]
    Weight {
        /// Where the evidence is.
        span: Span,
        /// Why it is evidence.
        reason: String,
        /// The weight given.
        weight: f32,
    },
    /// A factor of the configuration that is negative, infinite or not a number.
    #[error("reward setting `{field}` is {value}")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// The value given.
        value: f32,
    },
    /// The instance-level reward is infinite or not a number.
    #[error("the instance-level reward is {0}")]
    Instance(f32),
}

impl RewardError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Side { .. } => {
                "drop the record, or shorten the function: a side may hold 1 MiB".to_string()
            }
            Self::LabelledSpan { .. } => {
                "label the spans again (`vul2safe data build`); spans count bytes, not characters".to_string()
            }
            Self::NoTokens => "generate at least the end-of-text token for every answer".to_string(),
            Self::Token { .. } => "take the ranges from the tokenizer's `decode_with_spans`".to_string(),
            Self::EvidenceWithoutToken { .. } => {
                "find the evidence in the same text that the token ranges point into".to_string()
            }
            Self::Weight { .. } | Self::Setting { .. } | Self::Instance(_) => {
                "use a finite number that is not negative (the instance-level reward may be negative)"
                    .to_string()
            }
        })
    }
}
