//! What can go wrong between a request and its answer, and what to do about it.

use std::path::PathBuf;

use crate::{Limit, Spent};

/// An error of the client. `Display` says what is wrong and where; [`LlmError::hint`] what to do.
///
/// It can be cloned, since requests that share one answer share its error. No variant holds a key: text that came
/// from a server is searched for it first.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// A setting of an endpoint cannot be used.
    #[error("{field} is `{value}`: {why}")]
    BadEndpoint {
        /// The setting.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// Why it is refused.
        why: String,
    },
    /// The environment variable that should hold the key does not.
    #[error("the environment variable {variable}, named as the key of {base_url}, {why}")]
    KeyMissing {
        /// The variable.
        variable: String,
        /// The server it is for.
        base_url: String,
        /// `is not set`, or what is wrong with its value.
        why: &'static str,
    },
    /// A setting of the client makes no sense.
    #[error("{option} is {value}; it must be {range}")]
    BadOption {
        /// The setting.
        option: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// There is a budget in money, and no price is known for the model.
    #[error("no price is known for the model `{model}` at {base_url}, so a budget in money cannot be kept")]
    PriceUnknown {
        /// The model.
        model: String,
        /// The server.
        base_url: String,
    },
    /// A request that no server could answer.
    #[error("the request cannot be sent: {why}")]
    BadRequest {
        /// What is wrong with it.
        why: String,
    },
    /// The server refuses the request (a status that waiting does not change).
    #[error("{model} at {base_url} refuses the request with status {status}: {message}")]
    Refused {
        /// The server.
        base_url: String,
        /// The model.
        model: String,
        /// HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server was too busy, or failed, in every attempt.
    #[error("{base_url} answered status {status} in attempt {attempts}, the last one: {message}")]
    Overloaded {
        /// The server.
        base_url: String,
        /// HTTP status of the last attempt.
        status: u16,
        /// The server's words.
        message: String,
        /// How often the request was sent.
        attempts: u32,
    },
    /// The server cannot be reached, or the connection broke in every attempt.
    #[error("{base_url} cannot be reached (attempt {attempts}, the last one): {detail}")]
    Unreachable {
        /// The server.
        base_url: String,
        /// What the network says.
        detail: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A time limit passed.
    #[error("{base_url}: {phase} took more than {seconds} s (attempt {attempts}, the last one)")]
    TimedOut {
        /// The server.
        base_url: String,
        /// What took too long.
        phase: Phase,
        /// The limit in seconds.
        seconds: f64,
        /// How often it was tried.
        attempts: u32,
    },
    /// What came back is no answer of a chat completion, in every attempt.
    #[error("{base_url} sent no usable answer (attempt {attempts}, the last one): {detail}: `{excerpt}`")]
    BrokenAnswer {
        /// The server.
        base_url: String,
        /// What is wrong with it.
        detail: String,
        /// Its beginning.
        excerpt: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A structured answer was longer than it may be, each time it was asked for.
    #[error("the answer was cut at {maximum_tokens} tokens, {asks} times in a row")]
    Truncated {
        /// Limit of the last try.
        maximum_tokens: u32,
        /// How often the model was asked.
        asks: u32,
    },
    /// The server's content filter withheld a structured answer.
    #[error("the server's content filter withheld the answer")]
    Filtered,
    /// The model declined to give a structured answer.
    #[error("the model declined to answer: {text}")]
    Declined {
        /// Its words.
        text: String,
    },
    /// The answers did not have the form that was asked for, however often the model was told.
    #[error("no answer in {asks} had the form `{form}`; the last complaint: {}", complaints.last().map_or("", String::as_str))]
    Invalid {
        /// Name of the form.
        form: String,
        /// How often the model was asked.
        asks: u32,
        /// What was wrong with each answer.
        complaints: Vec<String>,
        /// The last answer.
        last_answer: String,
    },
    /// A budget is used up. Everything that was answered before stays in the cache.
    #[error("the budget of {limit} is used up: {spent}")]
    BudgetExhausted {
        /// The budget that stopped the request.
        limit: Limit,
        /// What was spent in this run.
        spent: Box<Spent>,
    },
    /// The cache cannot be read or written. Nothing more is sent, since it would be paid for again.
    #[error("{}: {detail}", path.display())]
    Cache {
        /// The SQLite file; empty for a cache that lives only as long as the client.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// A file of this crate's cannot be read, understood or written.
    #[error("{}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// There is no such prompt.
    #[error("there is no prompt `{name}`{}", place.as_ref().map_or(String::new(), |place| format!(", named by {}", place.display())))]
    UnknownPrompt {
        /// Its name.
        name: String,
        /// The file that claims to be one, where a file does.
        place: Option<PathBuf>,
        /// The known name that is nearest.
        nearest: Option<String>,
    },
    /// A prompt's template is broken, or was not given what it needs.
    #[error("the prompt `{name}` ({origin}): {detail}")]
    Template {
        /// The prompt.
        name: String,
        /// Its file, or `embedded`.
        origin: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The client's runtime or a background thread ended while a request waited. A bug of ours.
    #[error("the client stopped while a request waited: {detail}")]
    Stopped {
        /// What is known of it.
        detail: String,
    },
}

/// What a time limit was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Making the connection.
    Connect,
    /// One attempt, from its first byte out to its last byte in.
    Attempt,
    /// Waiting for the next piece of an answer that had begun.
    Stalled,
    /// The request with all its attempts and the waits between them.
    Deadline,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Phase::Connect => "connecting",
            Phase::Attempt => "one attempt",
            Phase::Stalled => "the next piece of the answer",
            Phase::Deadline => "the request with its repetitions",
        })
    }
}

impl LlmError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            LlmError::BadEndpoint { .. } | LlmError::BadOption { .. } => return None,
            LlmError::KeyMissing { variable, .. } => {
                format!("set it (`export {variable}=…`), or leave the key out for a server that wants none")
            }
            LlmError::PriceUnknown { model, .. } => format!(
                "give its price in a TOML file (`[[price]] model = \"{model}\"`, input and output in dollars a million \
                 tokens; 0 for a server of your own), or set a budget in tokens"
            ),
            LlmError::BadRequest { .. } => return None,
            LlmError::Refused { status: 401 | 403, .. } => {
                "check the key, and that it may use this model".into()
            }
            LlmError::Refused { status: 404, .. } => {
                "check the base URL (it mostly ends with `/v1`) and the model's name".into()
            }
            LlmError::Refused { message, .. } if message.contains("max_completion_tokens") => {
                "set `token_limit_field = \"max_completion_tokens\"` for this endpoint".into()
            }
            LlmError::Refused { .. } => "the server's words say what it does not accept".into(),
            LlmError::Overloaded { status: 429, .. } => {
                "set requests or tokens per minute to what the server allows, then start again; answers so far are kept"
                    .into()
            }
            LlmError::Overloaded { .. } | LlmError::Unreachable { .. } => {
                "see whether the server is well, then start again; answers so far are kept".into()
            }
            LlmError::TimedOut { .. } => {
                "raise the time limit, or ask for fewer tokens; answers so far are kept".into()
            }
            LlmError::BrokenAnswer { .. } => {
                "check that the base URL is that of an OpenAI-compatible server, not of a proxy's page".into()
            }
            LlmError::Truncated { .. } => "allow more tokens for an answer".into(),
            LlmError::Filtered | LlmError::Declined { .. } => {
                "another model may answer; the record is skipped".into()
            }
            LlmError::Invalid { .. } => {
                "a larger model, or `structured = \"json_schema\"` where the server can, keeps to the form".into()
            }
            LlmError::BudgetExhausted { .. } => {
                "raise the budget and start again: what was answered is in the cache and costs nothing".into()
            }
            LlmError::Cache { .. } => {
                "free space or choose another file; a file that is no cache of ours is not touched".into()
            }
            LlmError::File { .. } => return None,
            LlmError::UnknownPrompt { nearest, .. } => match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "export the prompts to a folder to see which there are".into(),
            },
            LlmError::Template { .. } => {
                "export the embedded prompt to compare, or delete the file to use it".into()
            }
            LlmError::Stopped { .. } => "please report it".into(),
        })
    }

    /// Whether the same request may well succeed later, so that its record is left open and not decided.
    ///
    /// True for budgets, time limits, overload, a broken connection and files that cannot be written; false where the
    /// answer itself was the trouble.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            LlmError::BudgetExhausted { .. }
                | LlmError::Overloaded { .. }
                | LlmError::Unreachable { .. }
                | LlmError::TimedOut { .. }
                | LlmError::BrokenAnswer { .. }
                | LlmError::Cache { .. }
                | LlmError::File { .. }
                | LlmError::Stopped { .. }
        ) || matches!(self, LlmError::Refused { status: 401 | 402 | 403 | 404 | 429, .. })
    }
}
