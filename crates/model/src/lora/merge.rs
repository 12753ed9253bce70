//! Adding an adapter to the weights, and taking it out again.

use rayon::prelude::*;

use super::{Adapter, Pair};
use crate::error::ModelError;
use crate::kernels::matmul::{Strided, gemm};
use crate::layers::{Projection, Weights};
use crate::parameter::Weight;

/// Rows of a merged matrix that one task computes.
const ROWS: usize = 64;

impl Projection {
    /// The matrix with the adapter's share in it.
    pub(crate) fn merged(&self) -> Vec<f32> {
        let mut numbers = self.weight.read().to_vec();
        if let Some(pair) = &self.adapter {
            add(&mut numbers, pair, 1.0);
        }
        numbers
    }
}

/// `weight += sign · scale · B·A`.
fn add(weight: &mut [f32], pair: &Pair, sign: f32) {
    let (a, b) = (pair.a.read(), pair.b.read());
    let (rank, inputs) = (pair.a.shape()[0], pair.a.shape()[1]);
    weight.par_chunks_mut(ROWS * inputs).zip(b.par_chunks(ROWS * rank)).for_each(|(weight, b)| {
        let scaled: Vec<f32> = b.iter().map(|value| sign * pair.scale * value).collect();
        let (b, a) = (Strided::rows(&scaled, rank), Strided::rows(&a, inputs));
        gemm(weight.len() / inputs, inputs, rank, weight, inputs, true, b, a);
    });
}

/// A copy of `weights` with `sign` times the adapter in their matrices, in the precision of the base.
pub(crate) fn apply(weights: &Weights, adapter: &Adapter, sign: f32) -> Result<Weights, ModelError> {
    let mut copy = weights.clone();
    for weight in [&mut copy.embedding, &mut copy.norm].into_iter().chain(&mut copy.head) {
        *weight = weight.duplicate()?;
    }
    for (index, layer) in copy.layers.iter_mut().enumerate() {
        for norm in [&mut layer.attention_norm, &mut layer.feed_forward_norm] {
            *norm = norm.duplicate()?;
        }
        if let Some((query, key)) = &mut layer.head_norms {
            (*query, *key) = (query.duplicate()?, key.duplicate()?);
        }
        let pairs = adapter.pairs(index);
        for (target, projection) in layer.projections_mut() {
            projection.adapter = None;
            if let Some(bias) = &mut projection.bias {
                *bias = bias.duplicate()?;
            }
            let weight = &projection.weight;
            let mut numbers = weight.read().to_vec();
            if let Some((_, pair)) = pairs.iter().find(|(at, _)| *at == target) {
                add(&mut numbers, pair, sign);
            }
            let merged = Weight::new(weight.name(), numbers, weight.shape(), weight.precision())?;
            projection.weight = merged;
        }
    }
    Ok(copy)
}
