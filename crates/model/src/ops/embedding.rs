//! Rows of the embedding matrix as a node of the tape.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::with_numbers;
use crate::parameter::Weight;

/// The rows of `ids`, `[tokens, hidden]`; the gradient goes to the weight. Its input is the pass's thread.
pub(crate) struct Embedding {
    pub(crate) weight: Weight,
    pub(crate) ids: Arc<Vec<u32>>,
}

impl Embedding {
    /// Gathers the rows.
    pub(crate) fn forward(weight: &Weight, ids: &[u32]) -> Vec<f32> {
        let hidden = weight.shape()[1];
        let mut out = Vec::with_capacity(ids.len() * hidden);
        for &id in ids {
            out.extend_from_slice(&weight.read_part(id as usize * hidden..(id as usize + 1) * hidden));
        }
        out
    }
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = Embedding::forward(&self.weight, &self.ids);
        Ok((CpuStorage::F32(out), Shape::from((self.ids.len(), self.weight.shape()[1]))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let hidden = self.weight.shape()[1];
        with_numbers(gradient, |gradient| {
            if let Some(parameter) = self.weight.parameter() {
                parameter.accumulate(|target, add| {
                    if !add {
                        target.fill(0.0);
                    }
                    for (&id, row) in self.ids.iter().zip(gradient.chunks_exact(hidden)) {
                        let target = &mut target[id as usize * hidden..(id as usize + 1) * hidden];
                        for (target, value) in target.iter_mut().zip(row) {
                            *target += value;
                        }
                    }
                });
            }
            Ok(())
        })?;
        Ok(None)
    }
}
