//! One projection inside a layer: its product forward, and the gradients of its input, its weight and its adapter.

use rayon::prelude::*;

use crate::kernels::buffer::Buffer;
use crate::kernels::matmul::{ROW_BLOCK, Strided, gemm, weight_gradient};
use crate::kernels::operand::{Operand, add_weight_gradient};
use crate::layers::Projection;
use crate::parameter::Numbers;

/// What a [`Linear`] will be asked for, and so in which order its weight has to be laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The product.
    Forward,
    /// The gradients.
    Backward,
    /// Both: a backward pass that computes its forward pass again.
    Both,
}

/// A projection with its numbers at hand: `y = x·Wᵀ + b + s·(drop(x)·Aᵀ)·Bᵀ`.
pub(crate) struct Linear<'a> {
    projection: &'a Projection,
    /// Wᵀ, laid out for [`Linear::forward`].
    forth: Option<Operand>,
    /// W, laid out for [`Linear::input_gradient`].
    back: Option<Operand>,
    bias: Option<Numbers<'a>>,
    adapter: Option<LinearAdapter<'a>>,
    inputs: usize,
    outputs: usize,
}

struct LinearAdapter<'a> {
    a: Numbers<'a>,
    b: Numbers<'a>,
    rank: usize,
    scale: f32,
    dropout: Option<Dropout>,
}

/// Which inputs of an adapter are dropped: a function of a seed, the row and the column, so that a backward pass finds the
/// same ones again.
#[derive(Clone, Copy)]
struct Dropout {
    seed: u64,
    share: f32,
}

impl Dropout {
    /// Writes `x`, whose first row stands at `first` in the batch, with the dropped numbers as 0 and the others scaled up.
    fn apply(self, x: &[f32], width: usize, first: usize, out: &mut [f32]) {
        let threshold = (f64::from(self.share) * 2f64.powi(32)) as u64;
        let keep = 1.0 / (1.0 - self.share);
        for (row, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let row_seed = mix(self.seed ^ mix((first + row) as u64));
            for (column, (x, out)) in x.iter().zip(out).enumerate() {
                let drawn = mix(row_seed.wrapping_add(column as u64)) >> 32;
                *out = if drawn < threshold { 0.0 } else { x * keep };
            }
        }
    }
}

/// SplitMix64's output function (Steele et al., 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl<'a> Linear<'a> {
    /// `dropout` is the seed of this projection in this pass; `None` drops nothing.
    pub(crate) fn new(projection: &'a Projection, what: Use, dropout: Option<u64>) -> Linear<'a> {
        let weight = projection.weight.read();
        let inputs = projection.inputs();
        let adapter = projection.adapter.as_ref().map(|pair| LinearAdapter {
            a: pair.a.read(),
            b: pair.b.read(),
            rank: pair.a.shape()[0],
            scale: pair.scale,
            dropout: dropout.filter(|_| pair.dropout > 0.0).map(|seed| Dropout { seed, share: pair.dropout }),
        });
        Linear {
            projection,
            forth: (what != Use::Backward).then(|| Operand::transposed(&weight, inputs)),
            back: (what != Use::Forward).then(|| Operand::plain(&weight, inputs)),
            bias: projection.bias.as_ref().map(|bias| bias.read()),
            adapter,
            inputs,
            outputs: projection.outputs(),
        }
    }

    /// The input of projections laid out for their weights' gradients; nothing where the base is frozen.
    pub(crate) fn gradient_operand(x: &[f32], inputs: usize, train_base: bool) -> Option<Operand> {
        train_base.then(|| Operand::plain(x, inputs))
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Writes (or adds) the product of the rows `x`, the first of which stands at `first` in the batch, to the columns of
    /// `out` that begin at its start and lie `out_row` apart. One thread.
    pub(crate) fn forward(&self, x: &[f32], first: usize, out: &mut [f32], out_row: usize, mut add: bool) {
        let rows = x.len() / self.inputs;
        if let Some(bias) = &self.bias {
            for out in out.chunks_mut(out_row) {
                let out = &mut out[..self.outputs];
                if add {
                    out.iter_mut().zip(bias.iter()).for_each(|(out, bias)| *out += bias);
                } else {
                    out.copy_from_slice(bias);
                }
            }
            add = true;
        }
        match &self.forth {
            Some(weight) => weight.multiply(rows, Strided::rows(x, self.inputs), out, out_row, add),
            None => unreachable!("made for gradients alone"),
        }
        if let Some(adapter) = &self.adapter {
            let mut low = Buffer::new(rows * adapter.rank);
            adapter.low(x, self.inputs, first, &mut low);
            low.iter_mut().for_each(|value| *value *= adapter.scale);
            let b = Strided::rows(&adapter.b, adapter.rank).transposed();
            let low = Strided::rows(&low, adapter.rank);
            gemm(rows, self.outputs, adapter.rank, out, out_row, true, low, b);
        }
    }

    /// Writes (or adds) the gradient of the input of `rows` rows to `dx`, from the output's gradient. One thread.
    pub(crate) fn input_gradient(
        &self,
        rows: usize,
        dy: Strided<'_>,
        first: usize,
        dx: &mut [f32],
        add: bool,
    ) {
        let inputs = self.inputs;
        match &self.back {
            Some(weight) => weight.multiply(rows, dy, dx, inputs, add),
            None => unreachable!("made for the product alone"),
        }
        let Some(adapter) = &self.adapter else { return };
        let mut dlow = Buffer::new(rows * adapter.rank);
        adapter.low_gradient(rows, self.outputs, dy, &mut dlow);
        let (dlow, a) = (Strided::rows(&dlow, adapter.rank), Strided::rows(&adapter.a, inputs));
        match adapter.dropout {
            None => gemm(rows, inputs, adapter.rank, dx, inputs, true, dlow, a),
            Some(dropout) => {
                // The gradient passes where the input passed, with the same factor.
                let mut raw = Buffer::new(rows * inputs);
                gemm(rows, inputs, adapter.rank, &mut raw, inputs, false, dlow, a);
                let mut kept = Buffer::new(rows * inputs);
                dropout.apply(&raw, inputs, first, &mut kept);
                dx.iter_mut().zip(kept.iter()).for_each(|(dx, kept)| *dx += kept);
            }
        }
    }

    /// Adds the gradients of weight and bias (where the base is trained) or of the adapter, over all rows of a batch. `inputs`
    /// is `x` laid out by [`Linear::gradient_operand`], for all projections of one input.
    pub(crate) fn weight_gradients(
        &self,
        tokens: usize,
        dy: Strided<'_>,
        x: &[f32],
        operand: Option<&Operand>,
    ) {
        if let Some(operand) = operand
            && let Some(parameter) = self.projection.weight.parameter()
        {
            parameter.accumulate(|gradient, add| add_weight_gradient(operand, gradient, dy, add));
            if let Some(bias) = self.projection.bias.as_ref().and_then(|bias| bias.parameter()) {
                bias.accumulate(|gradient, add| column_sums(tokens, dy, gradient, add));
            }
        }
        let (Some(adapter), Some(pair)) = (&self.adapter, &self.projection.adapter) else { return };
        let (rank, inputs) = (adapter.rank, self.inputs);
        let mut low = Buffer::new(tokens * rank);
        let mut dlow = Buffer::new(tokens * rank);
        let blocks = low.par_chunks_mut(ROW_BLOCK * rank).zip(dlow.par_chunks_mut(ROW_BLOCK * rank));
        blocks.zip(x.par_chunks(ROW_BLOCK * inputs)).enumerate().for_each(|(index, ((low, dlow), x))| {
            let first = index * ROW_BLOCK;
            adapter.low(x, inputs, first, low);
            low.iter_mut().for_each(|value| *value *= adapter.scale);
            let dy = Strided { data: &dy.data[first * dy.row..], ..dy };
            adapter.low_gradient(dlow.len() / rank, self.outputs, dy, dlow);
        });
        pair.b.accumulate(|gradient, add| {
            weight_gradient(tokens, gradient, rank, dy, Strided::rows(&low, rank), add);
        });
        let dropped = adapter.dropout.map(|dropout| {
            let mut dropped = Buffer::new(x.len());
            let blocks = dropped.par_chunks_mut(ROW_BLOCK * inputs).zip(x.par_chunks(ROW_BLOCK * inputs));
            blocks.enumerate().for_each(|(index, (out, x))| dropout.apply(x, inputs, index * ROW_BLOCK, out));
            dropped
        });
        let x = Strided::rows(dropped.as_deref().unwrap_or(x), inputs);
        // A has few rows: its gradient is computed as that of its transpose, which the threads can share.
        let mut transposed = Buffer::new(inputs * rank);
        weight_gradient(tokens, &mut transposed, rank, x, Strided::rows(&dlow, rank), false);
        pair.a.accumulate(|gradient, add| {
            for (at, row) in gradient.chunks_exact_mut(inputs).enumerate() {
                for (value, source) in row.iter_mut().zip(transposed.chunks_exact(rank)) {
                    *value = if add { *value } else { 0.0 } + source[at];
                }
            }
        });
    }
}

impl LinearAdapter<'_> {
    /// `drop(x)·Aᵀ`.
    fn low(&self, x: &[f32], inputs: usize, first: usize, out: &mut [f32]) {
        let rows = x.len() / inputs;
        let a = Strided::rows(&self.a, inputs).transposed();
        match self.dropout {
            None => gemm(rows, self.rank, inputs, out, self.rank, false, Strided::rows(x, inputs), a),
            Some(dropout) => {
                let mut dropped = Buffer::new(x.len());
                dropout.apply(x, inputs, first, &mut dropped);
                gemm(rows, self.rank, inputs, out, self.rank, false, Strided::rows(&dropped, inputs), a);
            }
        }
    }

    /// `s·dy·B`.
    fn low_gradient(&self, rows: usize, outputs: usize, dy: Strided<'_>, out: &mut [f32]) {
        gemm(rows, self.rank, outputs, out, self.rank, false, dy, Strided::rows(&self.b, self.rank));
        out.iter_mut().for_each(|value| *value *= self.scale);
    }
}

/// Sums of the columns of `dy`, block by block in order, so that runs repeat bit for bit.
fn column_sums(tokens: usize, dy: Strided<'_>, sums: &mut [f32], add: bool) {
    let width = sums.len();
    let parts: Vec<Vec<f32>> = (0..tokens.div_ceil(ROW_BLOCK))
        .into_par_iter()
        .map(|block| {
            let mut part = vec![0.0; width];
            for row in block * ROW_BLOCK..((block + 1) * ROW_BLOCK).min(tokens) {
                let values = &dy.data[row * dy.row..row * dy.row + width];
                part.iter_mut().zip(values).for_each(|(part, value)| *part += value);
            }
            part
        })
        .collect();
    super::norm::add_in_order(parts, sums, add);
}
