//! RMSNorm as a node of the tape.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{input, tensor, with_numbers};
use crate::kernels::matmul::ROW_BLOCK;
use crate::kernels::rows::{Norm, NormBackward, run};

/// `x [tokens, width]`, `weight [width]` → `[tokens, width]`.
pub(crate) struct RmsNorm {
    pub(crate) epsilon: f32,
}

impl RmsNorm {
    /// All rows of `x`, in parallel.
    pub(crate) fn forward(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let block = ROW_BLOCK * weight.len();
        x.par_chunks(block).zip(out.par_chunks_mut(block)).for_each(|(x, out)| {
            run(Norm { x, weight, epsilon, out });
        });
        out
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (input(x, x_layout, self.name())?, input(weight, weight_layout, self.name())?);
        Ok((CpuStorage::F32(RmsNorm::forward(x, weight, self.epsilon)), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dweight) = with_numbers(x, |x_numbers| {
            with_numbers(weight, |weight| {
                with_numbers(gradient, |dy| {
                    let mut dx = vec![0.0; x_numbers.len()];
                    let dweight = norm_backward(x_numbers, weight, self.epsilon, dy, &mut dx);
                    Ok((dx, dweight))
                })
            })
        })?;
        Ok((Some(tensor(dx, x.shape())?), Some(tensor(dweight, weight.shape())?)))
    }
}

/// Adds the gradient of the input to `dx` and gives back the gradient of the weight.
///
/// Every block of rows keeps its own sum and the sums are added in order, so that runs repeat bit for bit.
pub(crate) fn norm_backward(x: &[f32], weight: &[f32], epsilon: f32, dy: &[f32], dx: &mut [f32]) -> Vec<f32> {
    let block = ROW_BLOCK * weight.len();
    let parts: Vec<Vec<f32>> = x
        .par_chunks(block)
        .zip(dy.par_chunks(block))
        .zip(dx.par_chunks_mut(block))
        .map(|((x, dy), dx)| {
            let mut dweight = vec![0.0; weight.len()];
            run(NormBackward { x, weight, epsilon, dy, dx, dweight: &mut dweight });
            dweight
        })
        .collect();
    sum_in_order(parts, weight.len())
}

/// Adds equally long parts in their order.
pub(crate) fn sum_in_order(parts: Vec<Vec<f32>>, length: usize) -> Vec<f32> {
    let mut total = vec![0.0; length];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}
