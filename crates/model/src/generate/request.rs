//! What holds of a request wherever it runs: what is refused, and when its answer ends.

use super::GenerateOptions;
use super::sampling::{Finish, SamplingOptions};
use super::stop::StopStrings;
use crate::config::Config;
use crate::error::ModelError;
use crate::packed::check_ids;

/// Refuses options out of range, stop strings without a table of bytes, an empty prompt, an id outside the vocabulary, and a
/// prompt that leaves no position free.
pub(super) fn check_request(
    config: &Config,
    together: &GenerateOptions,
    request: usize,
    prompt: &[u32],
    options: &SamplingOptions,
) -> Result<(), ModelError> {
    let positions = config.max_position_embeddings;
    options.check()?;
    check_ids(prompt, config)?;
    if prompt.is_empty() {
        return Err(ModelError::input(format!("prompt {request} is empty")));
    }
    if prompt.len() >= positions {
        return Err(ModelError::input(format!(
            "prompt {request} has {} tokens, the model has {positions} positions",
            prompt.len()
        )));
    }
    if !options.stop_strings.is_empty() && together.token_bytes.is_none() {
        return Err(ModelError::input(format!(
            "request {request} has stop strings, and no table of the ids' bytes was given to find them with"
        )));
    }
    Ok(())
}

/// What ends an answer.
pub(super) struct End {
    stop_ids: Vec<u32>,
    stop_strings: StopStrings,
    limit: usize,
}

impl End {
    /// `limit` is the number of ids that may be generated, the model's positions considered.
    pub(super) fn new(options: &SamplingOptions, limit: usize) -> End {
        End {
            stop_ids: options.stop_ids.clone(),
            stop_strings: StopStrings::new(&options.stop_strings),
            limit,
        }
    }

    /// Ids that may be generated.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the answer ends with `id`, its `made`-th. To be asked of every id once, in order.
    pub(super) fn after(&mut self, id: u32, made: usize, together: &GenerateOptions) -> Option<Finish> {
        let bytes = together.token_bytes.as_ref().map_or(&[][..], |table| table.bytes(id));
        if self.stop_ids.contains(&id) {
            Some(Finish::Stop)
        } else if self.stop_strings.ends_with(bytes) {
            Some(Finish::StopString)
        } else {
            (made >= self.limit).then_some(Finish::Length)
        }
    }
}
