//! The nodes that a forward pass leaves on candle's tape: one a layer, and one each for embedding, final norm and score.
//!
//! Weights are no inputs of the nodes: a node's backward pass adds the gradients of its weights to the weights themselves
//! ([`crate::Parameter`]). So that the tape follows the nodes all the same, each takes a variable of one number, the pass's
//! thread, beside the residual stream.

pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod feed_forward;
pub(crate) mod layer;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod score;

use std::sync::Arc;

use candle_core::{CpuStorage, Device, Error, Layout, Result, Shape, Storage, Tensor};

use crate::kernels::attention::Heads;
use crate::kernels::rows::Rotary;

/// What all nodes of a pass share.
pub(crate) struct Context {
    pub(crate) heads: Heads,
    pub(crate) epsilon: f32,
    /// Where the sequences lie in the batch (`cu_seqlens`).
    pub(crate) offsets: Vec<u32>,
    /// The position of every token in its sequence.
    pub(crate) positions: Vec<u32>,
    pub(crate) rotary: Arc<Rotary>,
    /// Whether gradients of the base are wanted, or those of an adapter alone.
    pub(crate) train_base: bool,
    /// Seed of the adapter's dropout; `None`: nothing is dropped.
    pub(crate) dropout: Option<u64>,
}

impl Context {
    /// The dropout's seed of projection `place` in `layer`.
    pub(crate) fn dropout_seed(&self, layer: usize, place: u64) -> Option<u64> {
        self.dropout
            .map(|seed| seed.wrapping_add((layer as u64 * 8 + place).wrapping_mul(0xd134_2543_de82_ef95)))
    }
}

/// The contiguous numbers of an operation's input.
pub(crate) fn input<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    operation: &'static str,
) -> Result<&'a [f32]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| Error::RequiresContiguous { op: operation }.bt())?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Gives `read` the contiguous numbers of a CPU tensor.
pub(crate) fn with_numbers<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(input(storage, layout, "read")?),
        _ => Err(Error::Msg("this engine computes on the CPU; move the tensor there first".into()).bt()),
    }
}

/// A tensor on the CPU from its numbers.
pub(crate) fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &Device::Cpu)
}
