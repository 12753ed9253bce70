//! The feed-forward half of a layer: `x + down(silu(gate(n)) · up(n))` with n = RMSNorm(x).

use rayon::prelude::*;

use super::Context;
use super::linear::{Linear, Use};
use super::norm::norm_backward;
use crate::kernels::buffer::Buffer;
use crate::kernels::matmul::{ROW_BLOCK, Strided};
use crate::kernels::rows::{Norm, SwiGlu, SwiGluBackward, run};
use crate::layers::Layer;
use crate::parameter::Numbers;

/// The feed-forward half with its numbers at hand.
pub(crate) struct FeedForward<'a> {
    layer: &'a Layer,
    context: &'a Context,
    norm: Numbers<'a>,
    gate: Linear<'a>,
    up: Linear<'a>,
    down: Linear<'a>,
}

impl<'a> FeedForward<'a> {
    /// `index` is the layer's place in the model.
    pub(crate) fn new(layer: &'a Layer, index: usize, context: &'a Context, what: Use) -> FeedForward<'a> {
        let linear = |projection, place| Linear::new(projection, what, context.dropout_seed(index, place));
        FeedForward {
            layer,
            context,
            norm: layer.feed_forward_norm.read(),
            gate: linear(&layer.gate, 4),
            up: linear(&layer.up, 5),
            down: linear(&layer.down, 6),
        }
    }

    /// Gate and up before the activation, side by side, of some rows.
    fn gate_up(&self, x: &[f32], first: usize, gate_up: &mut [f32]) {
        let width = self.gate.outputs();
        let mut normed = Buffer::new(x.len());
        run(Norm { x, weight: &self.norm, epsilon: self.context.epsilon, out: &mut normed });
        self.gate.forward(&normed, first, gate_up, 2 * width, false);
        self.up.forward(&normed, first, &mut gate_up[width..], 2 * width, false);
    }

    /// The forward pass; gate and up before the activation (`[tokens, 2·width]`) are given back where they are kept.
    pub(crate) fn forward(&self, x: &[f32], keep: bool) -> (Vec<f32>, Option<Buffer>) {
        let (hidden, width) = (self.norm.len(), self.gate.outputs());
        let tokens = x.len() / hidden;
        let mut out = x.to_vec();
        let block = |index: usize, x: &[f32], gate_up: &mut [f32], out: &mut [f32]| {
            let first = index * ROW_BLOCK;
            self.gate_up(x, first, gate_up);
            let mut active = Buffer::new(x.len() / hidden * width);
            run(SwiGlu { gate_up, width, out: &mut active });
            self.down.forward(&active, first, out, hidden, true);
        };
        let rows = x.par_chunks(ROW_BLOCK * hidden).zip(out.par_chunks_mut(ROW_BLOCK * hidden)).enumerate();
        if keep {
            let mut saved = Buffer::new(tokens * 2 * width);
            rows.zip(saved.par_chunks_mut(ROW_BLOCK * 2 * width))
                .for_each(|((index, (x, out)), gate_up)| block(index, x, gate_up, out));
            (out, Some(saved))
        } else {
            rows.for_each(|(index, (x, out))| {
                block(index, x, &mut Buffer::new(x.len() / hidden * 2 * width), out);
            });
            (out, None)
        }
    }

    /// Gate and up before the activation, for a backward pass whose forward pass did not keep them.
    pub(crate) fn recompute(&self, x: &[f32]) -> Buffer {
        let (hidden, width) = (self.norm.len(), self.gate.outputs());
        let mut gate_up = Buffer::new(x.len() / hidden * 2 * width);
        x.par_chunks(ROW_BLOCK * hidden)
            .zip(gate_up.par_chunks_mut(ROW_BLOCK * 2 * width))
            .enumerate()
            .for_each(|(index, (x, gate_up))| self.gate_up(x, index * ROW_BLOCK, gate_up));
        gate_up
    }

    /// Gradient of the input from that of the output; gradients of the weights go to the weights. Overwrites `gate_up`.
    pub(crate) fn backward(&self, x: &[f32], mut gate_up: Buffer, dy: Vec<f32>) -> Vec<f32> {
        let (hidden, width, context) = (self.norm.len(), self.gate.outputs(), self.context);
        let tokens = x.len() / hidden;
        let mut normed = Buffer::new(x.len());
        let mut active = Buffer::new(tokens * width);
        let mut dnormed = Buffer::new(x.len());
        x.par_chunks(ROW_BLOCK * hidden)
            .zip(dy.par_chunks(ROW_BLOCK * hidden))
            .zip(gate_up.par_chunks_mut(ROW_BLOCK * 2 * width).zip(active.par_chunks_mut(ROW_BLOCK * width)))
            .zip(normed.par_chunks_mut(ROW_BLOCK * hidden).zip(dnormed.par_chunks_mut(ROW_BLOCK * hidden)))
            .enumerate()
            .for_each(|(index, (((x, dy), (gate_up, active)), (normed, dnormed)))| {
                let (rows, first) = (x.len() / hidden, index * ROW_BLOCK);
                run(Norm { x, weight: &self.norm, epsilon: context.epsilon, out: normed });
                let mut dactive = Buffer::new(rows * width);
                self.down.input_gradient(rows, Strided::rows(dy, hidden), first, &mut dactive, false);
                run(SwiGluBackward { gate_up, width, dout: &dactive, out: active });
                let dgate = Strided::rows(gate_up, 2 * width);
                self.gate.input_gradient(rows, dgate, first, dnormed, false);
                let dup = Strided::rows(&gate_up[width..], 2 * width);
                self.up.input_gradient(rows, dup, first, dnormed, true);
            });
        let operand = Linear::gradient_operand(&active, width, context.train_base);
        self.down.weight_gradients(tokens, Strided::rows(&dy, hidden), &active, operand.as_ref());
        drop((active, operand));
        let operand = Linear::gradient_operand(&normed, hidden, context.train_base);
        let dgate = Strided::rows(&gate_up, 2 * width);
        self.gate.weight_gradients(tokens, dgate, &normed, operand.as_ref());
        let dup = Strided::rows(&gate_up[width..], 2 * width);
        self.up.weight_gradients(tokens, dup, &normed, operand.as_ref());
        drop((normed, operand, gate_up));
        let mut dx = dy;
        norm_backward(x, &self.layer.feed_forward_norm, context, &dnormed, &mut dx);
        dx
    }
}
