//! The decoder language model: load, forward, backward, sample, save.
//!
//! A Qwen2 decoder (Qwen2, Qwen2.5, Qwen2.5-Coder) in the Hugging Face layout, in f32 on the CPU. Training goes through
//! candle's tape with two fused nodes a layer, whose backward passes are written by hand; sampling goes past the tape, with a
//! cache of keys and values and all prompts in one batch. Nothing of size tokens × vocabulary is ever held.
//!
//! This crate knows nothing of security, rewards, losses or optimisers, and it turns no text into ids.
//!
//! ```
//! use vul2safe_model::{Config, Model, Packed, SamplingOptions};
//!
//! # fn main() -> Result<(), vul2safe_model::ModelError> {
//! let model = Model::random(Config::new(64, 32, 64, 2, 4, 2), 7)?;
//! // One training step's loss: next-token log-probabilities of two packed sequences.
//! let batch = Packed::new(&[&[1, 2, 3], &[4, 5]]);
//! let hidden = model.hidden(&batch)?;
//! let scores = model.score(&hidden, &[0, 1, 3], &[2, 3, 5], 1.0)?;
//! let gradients = scores.log_prob.mean_all()?.neg()?.backward()?;
//! assert!(model.parameters().iter().all(|(_, parameter)| gradients.get(parameter).is_some()));
//! // Sampling.
//! let options = SamplingOptions { maximum_new_tokens: 5, ..SamplingOptions::default() };
//! let answers = model.generate(&[vec![1, 2, 3]], &[options])?;
//! assert_eq!(answers[0].ids.len(), 5);
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod config;
#[cfg(feature = "cuda")]
pub mod cuda;
mod decoder;
mod error;
mod generate;
mod kernels;
mod ops;
mod packed;
mod sampling;

pub use config::{Config, RopeParameters};
pub use decoder::{Model, TokenScores};
pub use error::ModelError;
pub use generate::Generation;
pub use packed::Packed;
pub use sampling::{Finish, SamplingOptions};
