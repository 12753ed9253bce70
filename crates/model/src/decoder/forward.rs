//! The forward pass, with a tape and without.

use std::sync::Arc;

use candle_core::Tensor;

use super::place::Place;
use super::{Host, Model};
use crate::error::ModelError;
use crate::ops::Context;
use crate::ops::embedding::Embedding;
use crate::ops::layer::LayerNode;
use crate::ops::norm::RmsNorm;
use crate::ops::tensor;
use crate::packed::Packed;

/// How a training pass goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pass {
    /// Seed of the adapter's dropout in this pass; `None` drops nothing, and so does an adapter whose dropout is 0.
    pub dropout: Option<u64>,
}

impl Model {
    fn context(&self, host: &Host, batch: &Packed, pass: Pass) -> Context {
        let longest = batch.offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Context {
            heads: self.heads(),
            epsilon: self.epsilon(),
            offsets: batch.offsets.clone(),
            positions: batch.offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect(),
            rotary: host.rotary(&self.config, longest as usize),
            train_base: self.trains_base(),
            dropout: pass.dropout,
        }
    }

    /// The residual stream after the final norm, `[tokens, hidden]`, on the tape; nothing is dropped.
    ///
    /// The gradients of a backward pass through it are added to [`Model::parameters`]. The tape is the processor's: for a
    /// model that may lie anywhere there is [`Model::scored_pass`].
    ///
    /// # Errors
    /// A batch that [`Packed::check`] refuses; a model without trainable weights; a model on a device.
    pub fn hidden(&self, batch: &Packed) -> Result<Tensor, ModelError> {
        self.hidden_in(batch, Pass::default())
    }

    /// As [`Model::hidden`], with the pass's own settings.
    ///
    /// # Errors
    /// Those of [`Model::hidden`].
    pub fn hidden_in(&self, batch: &Packed, pass: Pass) -> Result<Tensor, ModelError> {
        batch.check(&self.config)?;
        self.check_trainable()?;
        let host = self.host("a pass on the tape")?;
        let context = Arc::new(self.context(host, batch, pass));
        let weights = &host.weights;
        let keep = !self.checkpointing();
        let mut x = if context.train_base {
            let ids = Arc::new(batch.ids.clone());
            host.thread().apply_op1(Embedding { weight: weights.embedding.clone(), ids })?
        } else {
            let rows = Embedding::forward(&weights.embedding, &batch.ids);
            tensor(rows, (batch.tokens(), self.config.hidden_size))?
        };
        for (index, layer) in weights.layers.iter().enumerate() {
            x = x.apply_op2(host.thread(), LayerNode::new(layer, index, &context, keep))?;
        }
        Ok(x.apply_op2(host.thread(), RmsNorm { weight: weights.norm.clone(), context })?)
    }

    /// The same numbers as [`Model::hidden`] without a tape and without keeping anything for a backward pass: for
    /// references, old policies and evaluation.
    ///
    /// # Errors
    /// A batch that [`Packed::check`] refuses.
    pub fn hidden_detached(&self, batch: &Packed) -> Result<Tensor, ModelError> {
        batch.check(&self.config)?;
        let size = (batch.tokens(), self.config.hidden_size);
        let host = match &self.place {
            Place::Host(host) => host,
            Place::Device(device) => {
                let rows: Vec<u32> = (0..batch.tokens() as u32).collect();
                return Ok(tensor(device.model.pass(batch, None)?.hidden(&rows)?, size)?);
            }
        };
        let context = self.context(host, batch, Pass::default());
        let weights = &host.weights;
        let mut x = Embedding::forward(&weights.embedding, &batch.ids);
        for (index, layer) in weights.layers.iter().enumerate() {
            x = LayerNode::detached(layer, index, &context, &x);
        }
        let out = RmsNorm::forward(&x, &weights.norm.read(), context.epsilon);
        Ok(tensor(out, size)?)
    }

    /// All logits, `[tokens, vocabulary]`, without a tape; for tests and small batches, training uses [`Model::score`].
    ///
    /// # Errors
    /// A batch that [`Packed::check`] refuses.
    pub fn logits(&self, batch: &Packed) -> Result<Tensor, ModelError> {
        let host = match &self.place {
            Place::Host(host) => host,
            Place::Device(device) => {
                batch.check(&self.config)?;
                let logits = device.model.pass(batch, None)?.logits()?;
                return Ok(tensor(logits, (batch.tokens(), self.config.vocab_size))?);
            }
        };
        let head = host.weights.head();
        let head = tensor(head.read().to_vec(), head.shape().to_vec())?;
        Ok(self.hidden_detached(batch)?.matmul(&head.t()?)?)
    }
}
