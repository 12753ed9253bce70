//! RMSNorm: as a node of the tape, and as a part of the layers.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Context, input, tensor, with_numbers};
use crate::kernels::matmul::ROW_BLOCK;
use crate::kernels::rows::{Norm, NormBackward, run};
use crate::parameter::Weight;

/// `x [tokens, width]` → `[tokens, width]`; the weight's gradient goes to the weight.
pub(crate) struct RmsNorm {
    pub(crate) weight: Weight,
    pub(crate) context: std::sync::Arc<Context>,
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
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = input(x, layout, self.name())?;
        let out = RmsNorm::forward(x, &self.weight.read(), self.context.epsilon);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = with_numbers(x, |x_numbers| {
            with_numbers(gradient, |dy| {
                let mut dx = vec![0.0; x_numbers.len()];
                norm_backward(x_numbers, &self.weight, &self.context, dy, &mut dx);
                Ok(dx)
            })
        })?;
        Ok((Some(tensor(dx, x.shape())?), None))
    }
}

/// Adds the gradient of the input to `dx`, and that of the weight to the weight where the base is trained.
///
/// Every block of rows keeps its own sum and the sums are added in order, so that runs repeat bit for bit.
pub(crate) fn norm_backward(x: &[f32], weight: &Weight, context: &Context, dy: &[f32], dx: &mut [f32]) {
    let numbers = weight.read();
    let block = ROW_BLOCK * numbers.len();
    let parts: Vec<Vec<f32>> = x
        .par_chunks(block)
        .zip(dy.par_chunks(block))
        .zip(dx.par_chunks_mut(block))
        .map(|((x, dy), dx)| {
            let mut dweight = vec![0.0; numbers.len()];
            let epsilon = context.epsilon;
            run(NormBackward { x, weight: &numbers, epsilon, dy, dx, dweight: &mut dweight });
            dweight
        })
        .collect();
    keep_gradient(weight, context, parts);
}

/// Adds the parts of a vector's gradient to the vector where the base is trained.
pub(crate) fn keep_gradient(weight: &Weight, context: &Context, parts: Vec<Vec<f32>>) {
    if context.train_base
        && let Some(parameter) = weight.parameter()
    {
        parameter.accumulate(|gradient, add| add_in_order(parts, gradient, add));
    }
}

/// Adds equally long parts in their order, to what `total` holds or to zero.
pub(crate) fn add_in_order(parts: Vec<Vec<f32>>, total: &mut [f32], add: bool) {
    if !add {
        total.fill(0.0);
    }
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
}
