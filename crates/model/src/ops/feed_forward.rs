//! The feed-forward half of a layer as one node: `x + down(silu(gate(n)) · up(n))` with n = RMSNorm(x).

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::norm::norm_backward;
use super::{Tray, input, numbers, tensor, with_numbers};
use crate::kernels::buffer::Buffer;
use crate::kernels::matmul::{ROW_BLOCK, Strided, gemm, weight_gradient};
use crate::kernels::rows::{Norm, SwiGlu, SwiGluBackward, run};

/// The parameters' numbers, with gate and up as one matrix.
pub(crate) struct FeedForwardWeights {
    pub(crate) norm: Vec<f32>,
    /// `[2·width, hidden]`: gate above up.
    pub(crate) gate_up: Vec<f32>,
    /// `[hidden, width]`.
    pub(crate) down: Vec<f32>,
}

impl FeedForwardWeights {
    /// Copies them out of the tensors norm, gate, up, down.
    pub(crate) fn read(parameters: &[Tensor; 4]) -> Result<FeedForwardWeights> {
        let [norm, gate, up, down] = parameters;
        let mut gate_up = numbers(gate)?;
        with_numbers(up, |up| {
            gate_up.extend_from_slice(up);
            Ok(())
        })?;
        Ok(FeedForwardWeights { norm: numbers(norm)?, gate_up, down: numbers(down)? })
    }
}

/// `x [tokens, hidden]` and the thread of the parameters norm, gate, up, down → `[tokens, hidden]`.
pub(crate) struct FeedForward {
    /// norm, gate, up, down.
    pub(crate) parameters: [Tensor; 4],
    pub(crate) epsilon: f32,
    pub(crate) tray: Tray,
    /// Gate and up before the activation, `[tokens, 2·width]`; absent where no backward pass will come.
    pub(crate) saved: Mutex<Option<Buffer>>,
    /// Whether a backward pass may come.
    pub(crate) keep: bool,
}

impl FeedForward {
    /// The forward pass over slices; gives back the output and what the backward pass needs.
    pub(crate) fn forward(
        x: &[f32],
        weights: &FeedForwardWeights,
        epsilon: f32,
        keep: bool,
    ) -> (Vec<f32>, Option<Buffer>) {
        let hidden = weights.norm.len();
        let width = weights.down.len() / hidden;
        let tokens = x.len() / hidden;
        let mut out = x.to_vec();
        let mut saved = if keep { Buffer::new(tokens * 2 * width) } else { Buffer::default() };
        let block = |x: &[f32], gate_up: &mut [f32], out: &mut [f32]| {
            let rows = x.len() / hidden;
            let mut normed = Buffer::new(rows * hidden);
            run(Norm { x, weight: &weights.norm, epsilon, out: &mut normed });
            let gate_up_weight = Strided::rows(&weights.gate_up, hidden).transposed();
            gemm(
                rows,
                2 * width,
                hidden,
                gate_up,
                2 * width,
                false,
                Strided::rows(&normed, hidden),
                gate_up_weight,
            );
            let mut active = Buffer::new(rows * width);
            run(SwiGlu { gate_up, width, out: &mut active });
            let down = Strided::rows(&weights.down, width).transposed();
            gemm(rows, hidden, width, out, hidden, true, Strided::rows(&active, width), down);
        };
        let rows = x.par_chunks(ROW_BLOCK * hidden).zip(out.par_chunks_mut(ROW_BLOCK * hidden));
        if keep {
            rows.zip(saved.par_chunks_mut(ROW_BLOCK * 2 * width))
                .for_each(|((x, out), gate_up)| block(x, gate_up, out));
            (out, Some(saved))
        } else {
            rows.for_each(|(x, out)| block(x, &mut Buffer::new(x.len() / hidden * 2 * width), out));
            (out, None)
        }
    }

    fn backward(&self, x: &[f32], gate_up: &[f32], dy: &[f32]) -> Result<(Vec<f32>, Vec<Tensor>)> {
        let weights = FeedForwardWeights::read(&self.parameters)?;
        let hidden = weights.norm.len();
        let width = weights.down.len() / hidden;
        let tokens = x.len() / hidden;
        let mut normed = Buffer::new(x.len());
        let mut active = Buffer::new(tokens * width);
        let mut dgate_up = Buffer::new(tokens * 2 * width);
        let mut dnormed = Buffer::new(x.len());
        x.par_chunks(ROW_BLOCK * hidden)
            .zip(dy.par_chunks(ROW_BLOCK * hidden))
            .zip(gate_up.par_chunks(ROW_BLOCK * 2 * width))
            .zip(normed.par_chunks_mut(ROW_BLOCK * hidden).zip(dnormed.par_chunks_mut(ROW_BLOCK * hidden)))
            .zip(active.par_chunks_mut(ROW_BLOCK * width).zip(dgate_up.par_chunks_mut(ROW_BLOCK * 2 * width)))
            .for_each(|((((x, dy), gate_up), (normed, dnormed)), (active, dgate_up))| {
                let rows = x.len() / hidden;
                run(Norm { x, weight: &weights.norm, epsilon: self.epsilon, out: normed });
                let mut dactive = Buffer::new(rows * width);
                let down = Strided::rows(&weights.down, width);
                gemm(rows, width, hidden, &mut dactive, width, false, Strided::rows(dy, hidden), down);
                run(SwiGluBackward { gate_up, width, dout: &dactive, out: active, dgate_up });
                let weight = Strided::rows(&weights.gate_up, hidden);
                gemm(
                    rows,
                    hidden,
                    2 * width,
                    dnormed,
                    hidden,
                    false,
                    Strided::rows(dgate_up, 2 * width),
                    weight,
                );
            });
        let mut dx = dy.to_vec();
        let dnorm = norm_backward(x, &weights.norm, self.epsilon, &dnormed, &mut dx);
        let mut ddown = vec![0.0; weights.down.len()];
        weight_gradient(
            tokens,
            &mut ddown,
            width,
            Strided::rows(dy, hidden),
            Strided::rows(&active, width),
            false,
        );
        let mut dgate = vec![0.0; weights.gate_up.len()];
        let rows = Strided::rows(&dgate_up, 2 * width);
        weight_gradient(tokens, &mut dgate, hidden, rows, Strided::rows(&normed, hidden), false);
        let dup = dgate.split_off(width * hidden);
        let [norm, gate, up, down] = &self.parameters;
        let gradients = vec![
            tensor(dnorm, norm.shape())?,
            tensor(dgate, gate.shape())?,
            tensor(dup, up.shape())?,
            tensor(ddown, down.shape())?,
        ];
        Ok((dx, gradients))
    }
}

impl CustomOp2 for FeedForward {
    fn name(&self) -> &'static str {
        "feed-forward block"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weights = FeedForwardWeights::read(&self.parameters)?;
        let (out, saved) =
            FeedForward::forward(input(x, layout, self.name())?, &weights, self.epsilon, self.keep);
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        thread: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let gate_up = saved.as_ref().ok_or_else(|| candle_core::Error::BackwardNotSupported {
            op: "feed-forward block without saved values",
        })?;
        let (dx, gradients) =
            with_numbers(x, |x| with_numbers(gradient, |dy| self.backward(x, gate_up, dy)))?;
        self.tray.put(gradients);
        Ok((Some(tensor(dx, x.shape())?), Some(thread.zeros_like()?)))
    }
}
