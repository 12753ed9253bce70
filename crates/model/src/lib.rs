//! The decoder language model: load, forward, backward, adapt, sample, save.
//!
//! Qwen2 (with Qwen2.5 and Qwen2.5-Coder), Qwen3 (dense) and Llama decoders in the Hugging Face layout. On the processor training
//! goes through candle's tape with one fused node a layer, whose backward pass is written by hand and adds the gradients to
//! the weights themselves; with an adapter ([`Adapter`]) the base is frozen and shared. Sampling goes past the tape, with a
//! cache of keys and values and all prompts in one batch. Nothing of size tokens × vocabulary is ever held.
//!
//! The same model can lie on an NVIDIA GPU ([`Model::load_on`], [`Model::placed`]; cargo feature `cuda`): scored passes, training,
//! adapters, sampling and files are the same calls there ([`Model::scored_pass`], [`Model::learn`], [`Model::generate`]).
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
//! scores.log_prob.mean_all()?.neg()?.backward()?;
//! assert!(model.parameters().iter().all(|parameter| parameter.gradient().is_some()));
//! // Sampling.
//! let options = SamplingOptions { maximum_new_tokens: 5, ..SamplingOptions::default() };
//! let answers = model.generate(&[vec![1, 2, 3]], &[options])?;
//! assert_eq!(answers[0].ids.len(), 5);
//! # Ok(())
//! # }
//! ```

mod allocator;
mod checkpoint;
mod config;
#[cfg(feature = "cuda")]
pub mod cuda;
mod decoder;
mod device;
mod error;
mod generate;
mod kernels;
mod layers;
mod lora;
mod memory;
mod ops;
mod packed;
mod parameter;

pub use allocator::give_freed_memory_back;
pub use config::{Architecture, Config, RopeParameters};
pub use decoder::{Gradients, Model, Pass, ScoredPass, TokenScores};
pub use device::{
    Device, DeviceError, DeviceInfo, DeviceNeed, DeviceParameters, Part, Placement, StepNumbers, Trainable,
};
pub use error::ModelError;
pub use generate::{
    DecodePrecision, Event, Finish, GenerateOptions, Generation, Generator, SamplingOptions, TokenBytes,
    cache_bytes_per_token, decoding_bytes,
};
pub use kernels::matrix_product;
pub use lora::{Adapter, LoraConfig, Target};
pub use memory::{Advice, MemoryEstimate, SamplingLoad, TrainingLoad, Workload, kernel_name};
pub use packed::Packed;
pub use parameter::{Numbers, Parameter, Precision, Widened};
