//! Sampling without a tape: keys and values are cached, and many requests run together.
//!
//! [`Generator`] keeps a queue. Every step is one forward pass over one row of each request that is running, and over some
//! rows of prompts that are still being read; a request that has ended makes room for the next one at once. A prompt that
//! several requests share is read and cached once.
//!
//! A request's answer depends on its prompt, its options and the weights alone: all arithmetic on a row is done in the same
//! order whatever rows stand beside it, however the prompt was cut into passes, and whether its cache is shared. On a device this
//! holds but for rounding: there the number of rows decides how sums are cut.

mod forward;
mod generator;
mod on_device;
mod on_host;
mod request;
mod sampling;
mod stop;
mod team;
mod weights;

use std::ops::ControlFlow;

pub use self::generator::Generator;
pub(crate) use self::on_host::SMALL_RUNNING;
pub use self::sampling::{Finish, SamplingOptions};
pub use self::stop::TokenBytes;
pub(crate) use self::weights::PANEL_INPUTS;
pub use self::weights::{DecodePrecision, cache_bytes_per_token, decoding_bytes};
use crate::decoder::Model;
use crate::error::ModelError;

/// One request's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The generated ids, the stop id included when it came.
    pub ids: Vec<u32>,
    /// Log-probability of each id under the model's unmodified distribution (temperature 1, nothing penalised or cut off).
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finished: Finish,
}

/// How requests run together. None of this but the precision changes an answer.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Requests that run at the same time at most. Of a small model fewer run, where that is faster.
    pub maximum_running: usize,
    /// Tokens whose keys and values are cached at most, counting for each running request all that it may still generate; a
    /// shared prompt counts once. A request that needs more than that runs alone.
    pub maximum_cached_tokens: usize,
    /// Prompt tokens that one pass reads at most, beside the requests that are running.
    pub prefill_tokens: usize,
    /// Number type of the weights.
    pub precision: DecodePrecision,
    /// The ids' bytes; needed where a request has stop strings.
    pub token_bytes: Option<TokenBytes>,
}

impl Default for GenerateOptions {
    /// 128 requests at a time, 262,144 cached tokens, 256 prompt tokens a pass, f32 weights, no table of bytes.
    fn default() -> Self {
        GenerateOptions {
            maximum_running: 128,
            maximum_cached_tokens: 1 << 18,
            prefill_tokens: 256,
            precision: DecodePrecision::Float32,
            token_bytes: None,
        }
    }
}

impl GenerateOptions {
    fn check(&self) -> Result<(), ModelError> {
        if self.maximum_running == 0 || self.prefill_tokens == 0 {
            return Err(ModelError::input(
                "maximum_running and prefill_tokens must be at least 1, or no request could ever run",
            ));
        }
        Ok(())
    }
}

/// What happened to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// The next id of its answer.
    Token {
        /// The request's number.
        request: usize,
        /// The id.
        id: u32,
        /// Its log-probability under the unmodified distribution.
        log_prob: f32,
    },
    /// Its answer is complete.
    Finished {
        /// The request's number.
        request: usize,
        /// Why it ended.
        finish: Finish,
    },
}

impl Model {
    /// Answers every prompt. The options stand one for each prompt. For several answers to one prompt, give it several
    /// times, each with a seed of its own: it is read once.
    ///
    /// A request's answer depends on its prompt, its options and the weights alone: not on the other prompts, their order or
    /// the number of threads.
    ///
    /// # Errors
    /// Another number of options than prompts, options out of range, an empty prompt, an id outside the vocabulary, a
    /// prompt that leaves no position free, stop strings (which need [`Model::generate_with`]), logits that are not finite.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        options: &[SamplingOptions],
    ) -> Result<Vec<Generation>, ModelError> {
        self.generate_with(prompts, options, GenerateOptions::default())
    }

    /// [`Model::generate`] with limits, a precision and a table of the ids' bytes.
    ///
    /// # Errors
    /// Those of [`Model::generate`], limits of 0, stop strings without a table.
    pub fn generate_with(
        &self,
        prompts: &[Vec<u32>],
        options: &[SamplingOptions],
        together: GenerateOptions,
    ) -> Result<Vec<Generation>, ModelError> {
        self.generate_stream(prompts, options, together, &mut |_| ControlFlow::Continue(()))
    }

    /// Tells `observer` every event as it comes, with the prompts' indices as numbers; the answers come back at the end.
    ///
    /// Where the observer breaks off, the answers that are not complete end as they stand with [`Finish::Cancelled`].
    ///
    /// # Errors
    /// Those of [`Model::generate_with`].
    pub fn generate_stream(
        &self,
        prompts: &[Vec<u32>],
        options: &[SamplingOptions],
        together: GenerateOptions,
        observer: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Vec<Generation>, ModelError> {
        if prompts.len() != options.len() {
            return Err(ModelError::input(format!(
                "{} prompts but {} sampling options",
                prompts.len(),
                options.len()
            )));
        }
        let empty = Generation { ids: Vec::new(), log_probs: Vec::new(), finished: Finish::Cancelled };
        let mut answers = vec![empty; prompts.len()];
        let mut generator = self.generator(together)?;
        for (prompt, options) in prompts.iter().zip(options) {
            generator.submit(prompt, options)?;
        }
        while !generator.is_idle() {
            for event in generator.step()? {
                match event {
                    Event::Token { request, id, log_prob } => {
                        answers[request].ids.push(id);
                        answers[request].log_probs.push(log_prob);
                    }
                    Event::Finished { request, finish } => answers[request].finished = finish,
                }
                if observer(event).is_break() {
                    return Ok(answers);
                }
            }
        }
        Ok(answers)
    }

    /// A queue of requests that runs step by step and takes new requests in between, for a server.
    ///
    /// # Errors
    /// Limits of 0; weights that cannot be read.
    pub fn generator(&self, together: GenerateOptions) -> Result<Generator<'_>, ModelError> {
        together.check()?;
        Generator::new(self, together)
    }
}
