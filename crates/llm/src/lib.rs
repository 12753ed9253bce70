//! A client for any server that speaks OpenAI's chat completions: vLLM, Ollama, llama.cpp, a vendor.
//!
//! A [`Client`] is called from plain threads; its async runtime stays inside. Answers that were paid for lie in a
//! SQLite cache under a hash of everything that changes them, so that neither a kill nor a second process pays for
//! one twice. [`Budget`]s are hard stops: what a request may cost at most is reserved before it is sent. A request
//! that wants JSON ([`StructuredAnswer`]) gets a value that was checked, or, after as many complaints to the model
//! as [`Options::asks`] allows, an error that says what was wrong.
//!
//! The crate refuses to know what the dialogues are about, and believes nothing a server says about itself: token
//! counts are checked, errors classed, keys kept out of everything that is written.
//!
//! ```no_run
//! # fn main() -> Result<(), vul2safe_llm::LlmError> {
//! use vul2safe_llm::{Client, Endpoint, Options, Request};
//!
//! let endpoint = Endpoint::new("http://127.0.0.1:8000/v1", "my-model");
//! let client = Client::new(endpoint, Options { cache: Some("answers.sqlite".into()), ..Options::default() })?;
//! let requests = (0..8).map(|sample| Request { sample, ..Request::user("Write a haiku.") });
//! client.complete_all(requests, |index, result| match result {
//!     Ok(response) => println!("{index}: {}", response.text),
//!     Err(error) => eprintln!("{index}: {error}"),
//! });
//! println!("{}", client.stats());
//! # Ok(())
//! # }
//! ```

mod account;
mod answer;
mod cache;
mod canonical;
mod client;
mod dialogue;
mod endpoint;
mod error;
mod extract;
mod money;
mod options;
mod pace;
mod prices;
mod prompts;
mod request;
mod response;
#[cfg(feature = "scripted")]
pub mod scripted;
mod send;
mod shared;
mod stats;
mod structured;
mod transcript;
mod wire;

pub use account::{Budget, Limit, Spent};
pub use client::Client;
pub use endpoint::{Endpoint, StructuredOutput};
pub use error::{LlmError, Phase};
pub use extract::json_candidates;
pub use money::Money;
pub use options::{Options, Retry, Timeouts};
pub use prices::{Price, PriceTable};
pub use prompts::{EmbeddedPrompt, PromptSet, Rendered};
pub use request::{Message, Request, Role};
pub use response::{Count, Finish, Response, Usage};
pub use stats::Stats;
pub use structured::StructuredAnswer;
pub use transcript::{TranscriptLine, read_transcript};
