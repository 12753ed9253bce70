//! Where a model is computed: on the processor, or on a device with memory of its own.
//!
//! Everything outside the device's own code speaks to it through [`DeviceModel`], [`DevicePass`] and [`DeviceCache`], which are
//! there in every build; the engine for GPUs (`cuda`, with the cargo feature of that name) implements them.

mod choice;
mod error;
mod need;
mod trainable;

use std::sync::Arc;

pub use choice::{Device, DeviceInfo, Placement};
pub use error::DeviceError;
pub use need::DeviceNeed;
pub use trainable::{DeviceParameters, Part, StepNumbers, Trainable};

pub(crate) use choice::open;
#[cfg_attr(not(feature = "cuda"), allow(unused_imports, reason = "only a device implements it"))]
pub(crate) use trainable::OnDevice;

use crate::lora::LoraConfig;
use crate::packed::Packed;

/// Gives the numbers of a tensor by its name, row by row.
pub(crate) type Tensors<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<f32>, DeviceError>;

/// How one id is drawn on a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Divides the logits; with 0 the largest logit wins.
    pub temperature: f32,
    /// What the draw depends on beside the logits: another one for each token.
    pub seed: u64,
}

/// What a pass keeps for its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Each layer's input alone; the rest is computed again.
    pub(crate) checkpointing: bool,
    /// Seed of the adapter's dropout; none: nothing is dropped.
    pub(crate) dropout: Option<u64>,
}

/// A decoder whose numbers lie on a device.
pub(crate) trait DeviceModel: Send + Sync {
    /// The first `count` numbers of a weight of the base, widened; the unrounded ones where they are trained.
    fn read(&self, name: &str, count: usize) -> Result<Vec<f32>, DeviceError>;

    /// What training changes; nothing where all is frozen.
    fn trained(&self) -> Option<DeviceParameters>;

    /// Runs packed sequences; without `keep` nothing is kept for a way back.
    fn pass(&self, batch: &Packed, keep: Option<Keep>) -> Result<Box<dyn DevicePass>, DeviceError>;

    /// The same base with another adapter on it, which alone is trained.
    fn with_adapter(
        &self,
        adapter: &LoraConfig,
        tensors: Tensors<'_>,
    ) -> Result<Arc<dyn DeviceModel>, DeviceError>;

    /// The same base alone, in the same memory.
    fn without_adapter(&self) -> Result<Arc<dyn DeviceModel>, DeviceError>;

    /// A copy whose trained numbers are its own.
    fn duplicate(&self) -> Result<Arc<dyn DeviceModel>, DeviceError>;

    /// Room for the keys and values of `slots` texts of up to `capacity` tokens.
    fn cache(&self, slots: usize, capacity: usize) -> Result<Box<dyn DeviceCache>, DeviceError>;
}

/// A forward pass on a device.
pub(crate) trait DevicePass: Send {
    /// Hidden states after the final norm of these rows, `[rows, hidden]`.
    fn hidden(&self, rows: &[u32]) -> Result<Vec<f32>, DeviceError>;

    /// Logits of all rows, `[tokens, vocabulary]`.
    fn logits(&self) -> Result<Vec<f32>, DeviceError>;

    /// Log-probability and entropy of each target after its row; what the way back needs of them is remembered.
    fn score(
        &mut self,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<(Vec<f32>, Vec<f32>), DeviceError>;

    /// Goes back from the gradients of the last scores' log-probabilities and entropies, and of those rows' hidden states; adds to
    /// the gradients of what is trained.
    fn backward(
        self: Box<Self>,
        d_log_prob: &[f32],
        d_entropy: &[f32],
        d_hidden: Option<&[f32]>,
    ) -> Result<(), DeviceError>;

    /// Scores at temperature 1 and goes back at once, with the logits computed a single time.
    fn learn(
        self: Box<Self>,
        rows: &[u32],
        targets: &[u32],
        d_log_prob: &[f32],
    ) -> Result<Vec<f32>, DeviceError>;
}

/// Keys and values of texts that are being generated, with the logits of the tokens that come next.
pub(crate) trait DeviceCache: Send {
    /// Reads whole prompts into empty slots; one row of logits each.
    fn prefill(&mut self, slots: &[usize], prompts: &[&[u32]]) -> Result<(), DeviceError>;

    /// Copies the first `length` tokens of a slot into others.
    fn share(&mut self, from: usize, to: &[usize], length: usize) -> Result<(), DeviceError>;

    /// Appends one token to each slot; one row of logits each.
    fn decode(&mut self, slots: &[usize], ids: &[u32]) -> Result<(), DeviceError>;

    /// Empties a slot.
    fn clear(&mut self, slot: usize);

    /// Draws an id from each row of the last logits, with its log-probability under the logits themselves.
    fn sample(&self, draws: &[Draw]) -> Result<Vec<(u32, f32)>, DeviceError>;

    /// The last logits, `[rows, vocabulary]`.
    fn logits(&self) -> Result<Vec<f32>, DeviceError>;
}
