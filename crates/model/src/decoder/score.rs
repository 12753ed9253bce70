//! Log-probabilities and entropies of chosen tokens.

use std::sync::Mutex;

use candle_core::Tensor;

use super::place::Place;
use super::{Host, Model, Pass};
use crate::device::Keep;
use crate::error::ModelError;
use crate::ops::score::Score;
use crate::ops::{tensor, with_numbers};
use crate::packed::{Packed, check_ids};

/// What [`Model::score`] gives for each asked token.
#[derive(Debug, Clone)]
pub struct TokenScores {
    /// `[n]`: ln p(target), differentiable.
    pub log_prob: Tensor,
    /// `[n]`: entropy of the distribution that the target was drawn from, in nats, differentiable.
    pub entropy: Tensor,
}

impl Model {
    /// Log-probability of `targets[i]` after the packed row `rows[i]` of `hidden`, and the entropy there, both under
    /// softmax(logits / temperature); differentiable in `hidden` and in the head.
    ///
    /// The logits exist for one chunk of rows at a time, forward and backward.
    ///
    /// # Errors
    /// Different numbers of rows and targets, none at all, a row or target out of range, a temperature that is not a
    /// positive number; a model on a device.
    pub fn score(
        &self,
        hidden: &Tensor,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<TokenScores, ModelError> {
        let (tokens, _) = hidden.dims2()?;
        self.check_score(tokens, rows, targets, temperature)?;
        let host = self.host("a score on the tape")?;
        let operation = self.score_operation(host, rows, targets, temperature);
        let both = hidden.contiguous()?.apply_op2(host.thread(), operation)?;
        Ok(TokenScores { log_prob: both.get(0)?, entropy: both.get(1)? })
    }

    /// Log-probabilities and entropies as [`Model::score`] gives them, without a tape: for references and evaluation.
    ///
    /// # Errors
    /// Those of [`Model::hidden_detached`] and [`Model::score`].
    pub fn score_detached(
        &self,
        batch: &Packed,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        self.check_score(batch.tokens(), rows, targets, temperature)?;
        let host = match &self.place {
            Place::Host(host) => host,
            Place::Device(device) => {
                batch.check(self.config())?;
                return Ok(device.model.pass(batch, None)?.score(rows, targets, temperature)?);
            }
        };
        let hidden = self.hidden_detached(batch)?;
        let operation = self.score_operation(host, rows, targets, temperature);
        let scores = with_numbers(&hidden, |hidden| Ok(operation.forward(hidden)))?;
        Ok((scores.log_prob, scores.entropy))
    }

    /// A training pass for a loss `Σ gᵢ · log pᵢ` whose `gᵢ` (`d_log_prob`) are known beforehand, as those of cross-entropy
    /// are (minus each token's weight): runs forward and backward, adds the gradients to those of [`Model::trainable`] and gives the
    /// log-probabilities at temperature 1. It computes the logits once, where [`Model::score`] and its backward pass compute
    /// them twice.
    ///
    /// # Errors
    /// Those of [`Model::hidden`] and [`Model::score`], and another number of gradients than targets.
    pub fn learn(
        &self,
        batch: &Packed,
        rows: &[u32],
        targets: &[u32],
        d_log_prob: &[f32],
        pass: Pass,
    ) -> Result<Vec<f32>, ModelError> {
        self.check_score(batch.tokens(), rows, targets, 1.0)?;
        if d_log_prob.len() != targets.len() {
            return Err(ModelError::input(format!(
                "{} gradients for {} targets",
                d_log_prob.len(),
                targets.len()
            )));
        }
        let host = match &self.place {
            Place::Host(host) => host,
            Place::Device(device) => {
                batch.check(self.config())?;
                self.check_trainable()?;
                let kept = device.model.pass(batch, Some(self.keep(pass)))?;
                return Ok(kept.learn(rows, targets, d_log_prob)?);
            }
        };
        let hidden = self.hidden_in(batch, pass)?;
        let operation = self.score_operation(host, rows, targets, 1.0);
        let (log_probs, dhidden) =
            with_numbers(&hidden, |hidden| Ok(operation.cross_entropy(hidden, d_log_prob)))?;
        // A number whose gradient with respect to the hidden states is the one just computed.
        let dhidden = tensor(dhidden, hidden.shape())?;
        (hidden * dhidden)?.sum_all()?.backward()?;
        Ok(log_probs)
    }

    /// What a pass on a device keeps for its way back.
    pub(super) fn keep(&self, pass: Pass) -> Keep {
        Keep { checkpointing: self.checkpointing(), dropout: pass.dropout }
    }

    fn score_operation(&self, host: &Host, rows: &[u32], targets: &[u32], temperature: f32) -> Score {
        Score {
            head: host.weights.head().clone(),
            train_head: self.trains_base(),
            rows: rows.to_vec(),
            targets: targets.to_vec(),
            inverse_temperature: 1.0 / temperature,
            saved: Mutex::default(),
        }
    }

    pub(super) fn check_score(
        &self,
        tokens: usize,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<(), ModelError> {
        if rows.len() != targets.len() || rows.is_empty() {
            return Err(ModelError::input(format!(
                "{} rows and {} targets: a score needs as many of both, and at least one",
                rows.len(),
                targets.len()
            )));
        }
        if let Some(row) = rows.iter().find(|&&row| row as usize >= tokens) {
            return Err(ModelError::input(format!("row {row} lies outside a batch of {tokens} tokens")));
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(ModelError::input(format!("temperature {temperature} is not a positive number")));
        }
        check_ids(targets, &self.config)
    }
}
