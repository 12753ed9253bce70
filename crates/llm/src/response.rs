//! What comes back.

use serde::{Deserialize, Serialize};

use crate::Money;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The answer's text; for a structured answer the JSON value alone, without prose around it.
    pub text: String,
    /// The model's reasoning, where the server gives it apart.
    pub reasoning: Option<String>,
    /// Why the answer ends.
    pub finish: Finish,
    /// Tokens of the answer (of the last one, where the model was asked again).
    pub usage: Usage,
    /// Whether nothing was paid for it now: it stood in the cache, or another request paid for it.
    pub cached: bool,
    /// What the answer with all its earlier tries cost when it was paid; nothing when no price is known.
    pub cost: Option<Money>,
    /// The model, as the server names it.
    pub model: String,
    /// How often the model was asked until the answer had the form that was wanted; 1 without complaint.
    pub asks: u32,
}

impl Response {
    /// The value of a structured answer.
    ///
    /// # Errors
    /// serde's, if `T` is not the type that the request asked for.
    pub fn value<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.text)
    }
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model came to its end, or to a stop sequence.
    Stop,
    /// The limit of tokens cut it.
    Length,
    /// The server's content filter cut or withheld it.
    ContentFilter,
    /// The model declined, in the field that the server has for it.
    Refusal,
    /// Another reason, in the server's word; empty when it gives none.
    Other(String),
}

/// Tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens in, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens in that the server had cached itself (and may charge less for).
    pub cached_prompt_tokens: u64,
    /// Tokens out, reasoning included.
    pub completion_tokens: u64,
    /// Whose figures these are.
    pub count: Count,
}

impl Usage {
    /// Tokens in and out.
    pub fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// Whose figures a [`Usage`] has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// The server's, and they are possible.
    #[default]
    Reported,
    /// The server gave none: the most it can have been, from the length of the texts.
    Missing,
    /// The server's are impossible (more tokens than bytes, none for a text): the most it can have been.
    Implausible,
}
