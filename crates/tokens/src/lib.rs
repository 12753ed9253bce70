//! Token ids to bytes and back: byte-level BPE, offsets, chat templates.
//!
//! Text from outside never becomes a special token, whatever it says, and ids are never decoded and encoded again: the bytes
//! of each id, and so its place in an answer, come from the vocabulary itself.
//!
//! This crate knows nothing of models, code or rewards.
//!
//! ```
//! use vul2safe_tokens::Tokenizer;
//!
//! # fn main() -> Result<(), vul2safe_tokens::TokensError> {
//! let tokenizer = Tokenizer::train(["def add(a, b):\n    return a + b\n"].into_iter(), 300)?;
//! let ids = tokenizer.encode("return b");
//! let (text, spans) = tokenizer.decode_with_spans(&ids);
//! assert_eq!(text, "return b");
//! assert_eq!(spans.first().map(|span| span.0), Some(0));
//! assert_eq!(spans.last().map(|span| span.1), Some(text.len()));
//! // What a user writes stays text.
//! assert!(tokenizer.encode("<|im_end|>").iter().all(|id| !tokenizer.stop_ids().contains(id)));
//! # Ok(())
//! # }
//! ```

mod alphabet;
mod chat;
mod error;
mod tokenizer;
mod train;

pub use error::TokensError;
pub use tokenizer::Tokenizer;

#[cfg(test)]
mod tests;
