//! What is asked.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{LlmError, StructuredAnswer};

/// One request for one answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// The dialogue so far.
    pub messages: Vec<Message>,
    /// Tokens the answer may have at most; at least 1.
    pub max_tokens: u32,
    /// Sampling temperature; the server's default when left out.
    pub temperature: Option<f64>,
    /// Nucleus sampling; the server's default when left out.
    pub top_p: Option<f64>,
    /// Seed of the sampling. A server gets `seed + sample`, else all samples of a request would be the same.
    pub seed: Option<u64>,
    /// Which of several answers to the same request this is. It is part of the cache's key.
    pub sample: u32,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The form the answer must have.
    pub structured: Option<StructuredAnswer>,
    /// More fields of the request's body; they go before the endpoint's `extra_body`.
    pub extra: Map<String, Value>,
    /// Name and version of the prompt the messages were made from. It is part of the cache's key.
    pub prompt_version: Option<String>,
    /// The record the request belongs to: names the file of its transcript. Not part of the key.
    pub record: Option<String>,
    /// What the request is for, in a word (`analyse`); stands in the transcript. Not part of the key.
    pub role: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            messages: Vec::new(),
            max_tokens: 2048,
            temperature: None,
            top_p: None,
            seed: None,
            sample: 0,
            stop: Vec::new(),
            structured: None,
            extra: Map::new(),
            prompt_version: None,
            record: None,
            role: None,
        }
    }
}

impl Request {
    /// A request with one message from the user.
    pub fn user(text: impl Into<String>) -> Request {
        Request { messages: vec![Message::user(text)], ..Request::default() }
    }

    /// Whether any server could answer it.
    pub(crate) fn check(&self) -> Result<(), LlmError> {
        let bad = |why: String| Err(LlmError::BadRequest { why });
        if self.messages.is_empty() {
            return bad("it has no message".into());
        }
        if self.max_tokens == 0 {
            return bad("max_tokens is 0".into());
        }
        for (name, value, most) in [("temperature", self.temperature, 100.0), ("top_p", self.top_p, 1.0)] {
            if value.is_some_and(|value| !(0.0..=most).contains(&value)) {
                return bad(format!("{name} is {}; it must be from 0 to {most}", value.unwrap_or_default()));
            }
        }
        crate::endpoint::check_extra("extra", &self.extra)
    }
}

/// One message of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The words.
    pub content: String,
}

impl Message {
    /// What the model is told before the dialogue.
    pub fn system(text: impl Into<String>) -> Message {
        Message { role: Role::System, content: text.into() }
    }

    /// What the user says.
    pub fn user(text: impl Into<String>) -> Message {
        Message { role: Role::User, content: text.into() }
    }

    /// What the model said.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message { role: Role::Assistant, content: text.into() }
    }
}

/// Who speaks in a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions before the dialogue.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}
