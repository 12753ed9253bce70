//! One decoder layer as one node of the tape.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::attention::{self, Attention};
use super::feed_forward::FeedForward;
use super::linear::Use;
use super::{Context, input, tensor, with_numbers};
use crate::kernels::buffer::Buffer;
use crate::layers::Layer;

/// What a layer keeps between its forward and its backward pass.
struct Kept {
    attention: attention::Kept,
    /// The residual stream between the two halves.
    middle: Vec<f32>,
    gate_up: Buffer,
}

/// `x [tokens, hidden]` and the pass's thread → `[tokens, hidden]`.
pub(crate) struct LayerNode {
    pub(crate) layer: Layer,
    pub(crate) index: usize,
    pub(crate) context: Arc<Context>,
    /// Whether the forward pass keeps what the backward pass needs; if not, the backward pass computes it again from `x`
    /// (gradient checkpointing; Chen et al., 2016).
    pub(crate) keep: bool,
    saved: Mutex<Option<Kept>>,
}

impl LayerNode {
    pub(crate) fn new(layer: &Layer, index: usize, context: &Arc<Context>, keep: bool) -> LayerNode {
        LayerNode { layer: layer.clone(), index, context: context.clone(), keep, saved: Mutex::new(None) }
    }

    /// The forward pass alone.
    pub(crate) fn detached(layer: &Layer, index: usize, context: &Context, x: &[f32]) -> Vec<f32> {
        let (middle, _) = Attention::new(layer, index, context, Use::Forward).forward(x);
        FeedForward::new(layer, index, context, Use::Forward).forward(&middle, false).0
    }
}

impl CustomOp2 for LayerNode {
    fn name(&self) -> &'static str {
        "decoder layer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = input(x, layout, self.name())?;
        let (layer, index, context) = (&self.layer, self.index, &*self.context);
        let (middle, attention) = Attention::new(layer, index, context, Use::Forward).forward(x);
        let (out, gate_up) =
            FeedForward::new(layer, index, context, Use::Forward).forward(&middle, self.keep);
        if let Some(gate_up) = gate_up {
            let kept = Kept { attention, middle, gate_up };
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        // Taken, not borrowed: its memory serves the layers below. A second pass through the same graph computes it again.
        let kept = self.saved.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (layer, index, context) = (&self.layer, self.index, &*self.context);
        let dx = with_numbers(x, |x| {
            let dy = with_numbers(gradient, |dy| Ok(dy.to_vec()))?;
            let (kept, middle, dmiddle) = match kept {
                Some(Kept { attention, middle, gate_up }) => {
                    let half = FeedForward::new(layer, index, context, Use::Backward);
                    let dmiddle = half.backward(&middle, gate_up, dy);
                    (attention, middle, dmiddle)
                }
                None => {
                    let (middle, kept) = Attention::new(layer, index, context, Use::Forward).forward(x);
                    let half = FeedForward::new(layer, index, context, Use::Both);
                    let gate_up = half.recompute(&middle);
                    let dmiddle = half.backward(&middle, gate_up, dy);
                    (kept, middle, dmiddle)
                }
            };
            drop(middle);
            Ok(Attention::new(layer, index, context, Use::Backward).backward(x, kept, dmiddle))
        })?;
        Ok((Some(tensor(dx, x.shape())?), None))
    }
}
