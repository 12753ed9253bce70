//! The weights as sampling reads them.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::team::Team;
use crate::config::Config;
use crate::decoder::{Host, Model};
use crate::kernels::attention::Heads;
use crate::kernels::decoding::{
    Disjoint, Multiply, PANEL, Start, WeightRows, panels, round_to_bfloat16, round_to_bytes,
};
use crate::kernels::rows::Rotary;
use crate::layers::{Layer, Projection};
use crate::parameter::{Halves, Parameter, Weight};

/// The number type in which sampling keeps the large matrices. Activations, sums and the cache are f32 in any case.
///
/// With rounded weights, ids and log-probabilities are those of the rounded model: use them where an answer is all that is
/// wanted, and not where log-probabilities are compared with those of a training pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecodePrecision {
    /// The model's own weights, those of models that are not small read where they lie.
    #[default]
    Float32,
    /// A copy rounded to bfloat16, half as large.
    Bfloat16,
    /// A copy rounded to bytes with one scale an output, a quarter as large.
    Int8,
}

/// Matrices with so few inputs are laid out in panels where they are not rounded; the register sums of longer ones cost too
/// little to pay for the copy.
pub(crate) const PANEL_INPUTS: usize = 384;

/// Bytes of a small layer at most.
const SMALL_LAYER: usize = 1 << 20;

/// Bytes that the weights take while sampling, apart from the model's own: a copy where they are rounded, and with
/// [`DecodePrecision::Float32`] a copy of the matrices that have few inputs, as those of small models have.
pub fn decoding_bytes(config: &Config, precision: DecodePrecision) -> usize {
    let outputs_and_inputs = config.parameter_shapes().into_iter().map(|(name, shape)| match shape[..] {
        [outputs, inputs] => {
            // A tied matrix is read as the embedding where it lies, and copied for the head.
            let copied = name != "model.embed_tokens.weight" || config.tie_word_embeddings;
            if copied { (outputs, inputs) } else { (0, 0) }
        }
        // A norm or bias is copied.
        _ => (0, 0),
    });
    let matrices: usize = outputs_and_inputs
        .map(|(outputs, inputs)| match precision {
            DecodePrecision::Float32 if inputs <= PANEL_INPUTS => {
                4 * outputs.next_multiple_of(PANEL) * inputs
            }
            DecodePrecision::Float32 => 0,
            DecodePrecision::Bfloat16 => 2 * outputs * inputs,
            DecodePrecision::Int8 => outputs * inputs + 4 * outputs,
        })
        .sum();
    let vectors: usize = config
        .parameter_shapes()
        .iter()
        .filter(|(_, shape)| shape.len() == 1)
        .map(|(_, shape)| 4 * shape[0])
        .sum();
    matrices + vectors
}

/// Bytes of cached keys and values for each token of each request that is running; a shared prefix counts once.
pub fn cache_bytes_per_token(config: &Config) -> usize {
    2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_width()
}

/// The numbers of a weight `[outputs, inputs]`.
enum Numbers {
    /// The model's own.
    Model(Parameter),
    /// The model's own, which are kept in bfloat16.
    Halves(Arc<Halves>),
    /// A copy with an adapter's share in it.
    Merged(Vec<f32>),
    /// A copy in panels.
    Panels(Vec<f32>),
    Bfloat16(Vec<bf16>),
    Int8 {
        bytes: Vec<i8>,
        scales: Vec<f32>,
    },
}

/// A weight `[outputs, inputs]` and where its outputs go.
pub(super) struct Matrix {
    numbers: Numbers,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    bias: Option<Vec<f32>>,
}

impl Matrix {
    fn read(projection: &Projection, precision: DecodePrecision) -> Matrix {
        let (outputs, inputs) = (projection.outputs(), projection.inputs());
        let bias = projection.bias.as_ref().map(|bias| bias.read().to_vec());
        let merged = projection.adapter.is_some();
        let numbers = match (precision, &projection.weight) {
            // In place: as large as a rounded copy would be, and exact.
            (DecodePrecision::Float32 | DecodePrecision::Bfloat16, Weight::Bfloat16(halves)) if !merged => {
                Numbers::Halves(halves.clone())
            }
            (DecodePrecision::Float32, Weight::Float32(parameter)) if !merged && inputs > PANEL_INPUTS => {
                Numbers::Model(parameter.clone())
            }
            (DecodePrecision::Float32, _) if inputs > PANEL_INPUTS => Numbers::Merged(projection.merged()),
            (DecodePrecision::Float32, _) => Numbers::Panels(panels(&projection.merged(), inputs)),
            (DecodePrecision::Bfloat16, _) => Numbers::Bfloat16(round_to_bfloat16(&projection.merged())),
            (DecodePrecision::Int8, _) => {
                let numbers = projection.merged();
                let mut bytes = Vec::with_capacity(numbers.len());
                let scales =
                    numbers.chunks_exact(inputs).map(|row| round_to_bytes(row, &mut bytes)).collect();
                Numbers::Int8 { bytes, scales }
            }
        };
        Matrix { numbers, outputs, inputs, bias }
    }

    /// Outputs that one piece of work computes: few enough that they stay in the second-level cache while all rows meet
    /// them, and that every thread gets several pieces.
    fn share(&self, threads: usize) -> usize {
        let cached = ((128 << 10) / self.inputs.max(1)).min(64);
        let whole = if matches!(self.numbers, Numbers::Panels(_)) { PANEL } else { 8 };
        self.outputs.div_ceil(4 * threads).min(cached).next_multiple_of(whole)
    }

    fn bytes(&self) -> usize {
        let number = match self.numbers {
            Numbers::Model(_) | Numbers::Merged(_) | Numbers::Panels(_) => 4,
            Numbers::Halves(_) | Numbers::Bfloat16(_) => 2,
            Numbers::Int8 { .. } => 1,
        };
        number * self.outputs * self.inputs
    }

    /// `out[row, at + o] = … + x · weight` for the outputs `o` of `range`, on this thread.
    ///
    /// # Safety
    /// No other thread writes or reads these columns of `out` meanwhile.
    unsafe fn multiply(
        &self,
        range: Range<usize>,
        x: &[f32],
        add: bool,
        (out, out_row, at): (Disjoint<'_>, usize, usize),
    ) {
        let start = match &self.bias {
            _ if add => Start::Output,
            Some(bias) => Start::Bias(&bias[range.clone()]),
            None => Start::Zero,
        };
        let numbers = range.start * self.inputs..range.end * self.inputs;
        let with = |weight: WeightRows<'_>| {
            let product =
                Multiply { x, inputs: self.inputs, weight, start, out, out_row, at: at + range.start };
            // SAFETY: passed on from the caller.
            unsafe { product.compute() }
        };
        match &self.numbers {
            Numbers::Model(parameter) => with(WeightRows::Float32(&parameter.read()[numbers])),
            Numbers::Halves(halves) => with(WeightRows::Bfloat16(&halves.numbers()[numbers])),
            Numbers::Merged(weight) => with(WeightRows::Float32(&weight[numbers])),
            Numbers::Panels(panels) => {
                let count = range.len();
                let end = range.end.next_multiple_of(PANEL) * self.inputs;
                with(WeightRows::Panels(&panels[range.start * self.inputs..end], count));
            }
            Numbers::Bfloat16(weight) => with(WeightRows::Bfloat16(&weight[numbers])),
            Numbers::Int8 { bytes, scales } => {
                with(WeightRows::Int8(&bytes[numbers], &scales[range.clone()]))
            }
        }
    }
}

/// One piece of a product: some outputs of one of several matrices.
pub(super) struct Pieces<'a> {
    pieces: Vec<(&'a Matrix, Range<usize>, usize)>,
}

impl<'a> Pieces<'a> {
    /// The pieces of matrices whose outputs stand side by side.
    pub(super) fn new(matrices: impl IntoIterator<Item = &'a Matrix>, threads: usize) -> Pieces<'a> {
        let mut pieces = Vec::new();
        let mut at = 0;
        for matrix in matrices {
            let share = matrix.share(threads);
            for first in (0..matrix.outputs).step_by(share) {
                pieces.push((matrix, first..(first + share).min(matrix.outputs), at));
            }
            at += matrix.outputs;
        }
        Pieces { pieces }
    }

    /// `out[rows, columns] = x[rows, inputs] · weightsᵀ (+ bias)`, or adds the product to `out`.
    pub(super) fn multiply(&self, team: &Team, x: &[f32], add: bool, out: &mut [f32], columns: usize) {
        let out = Disjoint::new(out);
        team.each(self.pieces.len(), |piece| {
            let (matrix, range, at) = &self.pieces[piece];
            // SAFETY: the pieces' columns do not overlap.
            unsafe { matrix.multiply(range.clone(), x, add, (out, columns, *at)) };
        });
    }
}

/// One layer's weights.
pub(super) struct DecodingLayer {
    pub(super) attention_norm: Vec<f32>,
    /// Query, key and value.
    pub(super) qkv: [Matrix; 3],
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) out: Matrix,
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

impl DecodingLayer {
    fn read(layer: &Layer, precision: DecodePrecision) -> DecodingLayer {
        let matrix = |projection| Matrix::read(projection, precision);
        let vector = |weight: &Weight| weight.read().to_vec();
        DecodingLayer {
            attention_norm: vector(&layer.attention_norm),
            qkv: [matrix(&layer.query), matrix(&layer.key), matrix(&layer.value)],
            query_norm: layer.head_norms.as_ref().map(|(query, _)| vector(query)),
            key_norm: layer.head_norms.as_ref().map(|(_, key)| vector(key)),
            out: matrix(&layer.out),
            feed_forward_norm: vector(&layer.feed_forward_norm),
            gate: matrix(&layer.gate),
            up: matrix(&layer.up),
            down: matrix(&layer.down),
        }
    }

    fn bytes(&self) -> usize {
        self.qkv.iter().chain([&self.out, &self.gate, &self.up, &self.down]).map(Matrix::bytes).sum()
    }
}

/// All weights. This is the only place that knows how a [`Model`] keeps them.
pub(super) struct DecodingWeights {
    pub(super) heads: Heads,
    pub(super) hidden: usize,
    pub(super) feed: usize,
    pub(super) vocabulary: usize,
    pub(super) epsilon: f32,
    pub(super) rotary: Arc<Rotary>,
    embedding: Weight,
    pub(super) layers: Vec<DecodingLayer>,
    pub(super) norm: Vec<f32>,
    pub(super) head: Matrix,
}

impl DecodingWeights {
    pub(super) fn read(model: &Model, host: &Host, precision: DecodePrecision) -> DecodingWeights {
        let config = model.config();
        let weights = &host.weights;
        let layers = weights.layers.par_iter().map(|layer| DecodingLayer::read(layer, precision)).collect();
        let head = Projection { weight: weights.head().clone(), bias: None, adapter: None };
        DecodingWeights {
            heads: model.heads(),
            hidden: config.hidden_size,
            feed: config.intermediate_size,
            vocabulary: config.vocab_size,
            epsilon: model.epsilon(),
            rotary: host.rotary(config, 1),
            embedding: weights.embedding.clone(),
            layers,
            norm: weights.norm.read().to_vec(),
            head: Matrix::read(&head, precision),
        }
    }

    /// Whether a layer stays in a processor's second-level cache, so that reading it for some rows after the others costs
    /// nothing.
    pub(super) fn is_small(&self) -> bool {
        self.layers.first().is_some_and(|layer| layer.bytes() <= SMALL_LAYER)
    }

    /// Appends the embeddings of `ids`.
    pub(super) fn embed(&self, ids: impl Iterator<Item = u32>, x: &mut Vec<f32>) {
        for id in ids {
            let row = id as usize * self.hidden..(id as usize + 1) * self.hidden;
            x.extend_from_slice(&self.embedding.read_part(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_that_are_held() {
        for tied in [true, false] {
            // The feed-forward matrices of the second lie on the other side of the limit.
            let feed = if tied { 40 } else { PANEL_INPUTS + 8 };
            let config = Config { tie_word_embeddings: tied, ..Config::new(61, 24, feed, 2, 4, 2) };
            let model = Model::random(config.clone(), 1).expect("a model");
            for precision in [DecodePrecision::Float32, DecodePrecision::Bfloat16, DecodePrecision::Int8] {
                let weights = DecodingWeights::read(
                    &model,
                    model.host("reading").expect("on the processor"),
                    precision,
                );
                let matrices = weights.layers.iter().flat_map(|layer| {
                    layer.qkv.iter().chain([&layer.out, &layer.gate, &layer.up, &layer.down])
                });
                let held: usize = matrices
                    .chain([&weights.head])
                    .map(|matrix| {
                        let bias = matrix.bias.as_ref().map_or(0, |bias| 4 * bias.len());
                        bias + match &matrix.numbers {
                            Numbers::Model(_) | Numbers::Halves(_) => 0,
                            Numbers::Merged(numbers) => 4 * numbers.len(),
                            Numbers::Panels(numbers) => 4 * numbers.len(),
                            Numbers::Bfloat16(numbers) => 2 * numbers.len(),
                            Numbers::Int8 { bytes, scales } => bytes.len() + 4 * scales.len(),
                        }
                    })
                    .sum();
                let norms = weights
                    .layers
                    .iter()
                    .map(|layer| layer.attention_norm.len() + layer.feed_forward_norm.len());
                let norms = 4 * (norms.sum::<usize>() + weights.norm.len());
                assert_eq!(decoding_bytes(&config, precision), held + norms, "{precision:?}, tied {tied}");
            }
        }
    }
}
