//! Rows of the embedding matrix as a node of the tape.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{input, tensor, with_numbers};

/// `weight [vocabulary, hidden]` → `[tokens, hidden]`, the rows of `ids`.
pub(crate) struct Embedding {
    pub(crate) ids: Arc<Vec<u32>>,
}

impl Embedding {
    /// Gathers the rows.
    pub(crate) fn forward(weight: &[f32], ids: &[u32], hidden: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(ids.len() * hidden);
        for &id in ids {
            out.extend_from_slice(&weight[id as usize * hidden..(id as usize + 1) * hidden]);
        }
        out
    }
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, hidden) = layout.shape().dims2()?;
        let out = Embedding::forward(input(weight, layout, self.name())?, &self.ids, hidden);
        Ok((CpuStorage::F32(out), Shape::from((self.ids.len(), hidden))))
    }

    fn bwd(&self, weight: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, hidden) = weight.dims2()?;
        let mut dweight = vec![0.0f32; weight.elem_count()];
        with_numbers(gradient, |gradient| {
            for (&id, row) in self.ids.iter().zip(gradient.chunks_exact(hidden)) {
                let target = &mut dweight[id as usize * hidden..(id as usize + 1) * hidden];
                for (target, value) in target.iter_mut().zip(row) {
                    *target += value;
                }
            }
            Ok(())
        })?;
        Ok(Some(tensor(dweight, weight.shape())?))
    }
}
