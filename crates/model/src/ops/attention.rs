//! The attention half of a layer: `x + o(attention(rotate(q(n), k(n)), v(n)))` with n = RMSNorm(x), where q and k go through
//! a norm of each head first in Qwen3.

use rayon::prelude::*;

use super::Context;
use super::linear::{Linear, Use};
use super::norm::{keep_gradient, norm_backward};
use crate::kernels::attention::{self, Saved};
use crate::kernels::buffer::Buffer;
use crate::kernels::matmul::{ROW_BLOCK, Strided};
use crate::kernels::rows::{Norm, NormBackward, Turn, run};
use crate::layers::Layer;
use crate::parameter::Numbers;

/// What the backward pass needs of the forward pass.
pub(crate) struct Kept {
    /// Query, key and value rows after the rotary embedding.
    qkv: Buffer,
    /// Query and key rows before their norms, where they have norms.
    raw: Option<Buffer>,
    /// What attention gave, before the output projection.
    attended: Buffer,
    log_sum_exp: Buffer,
}

/// The attention half with its numbers at hand.
pub(crate) struct Attention<'a> {
    layer: &'a Layer,
    context: &'a Context,
    norm: Numbers<'a>,
    /// Query, key and value.
    inward: [Linear<'a>; 3],
    head_norms: Option<(Numbers<'a>, Numbers<'a>)>,
    out: Linear<'a>,
}

impl<'a> Attention<'a> {
    /// `index` is the layer's place in the model.
    pub(crate) fn new(layer: &'a Layer, index: usize, context: &'a Context, what: Use) -> Attention<'a> {
        let linear = |projection, place| Linear::new(projection, what, context.dropout_seed(index, place));
        Attention {
            layer,
            context,
            norm: layer.attention_norm.read(),
            inward: [linear(&layer.query, 0), linear(&layer.key, 1), linear(&layer.value, 2)],
            head_norms: layer.head_norms.as_ref().map(|(query, key)| (query.read(), key.read())),
            out: linear(&layer.out, 3),
        }
    }

    /// Writes query, key and value of some rows into `qkv`, turned; and query and key as they were before their norms into
    /// `raw`, which is empty where there are no norms.
    fn project(&self, x: &[f32], first: usize, qkv: &mut [f32], raw: &mut [f32]) {
        let (heads, hidden, epsilon) = (self.context.heads, self.norm.len(), self.context.epsilon);
        let (row, rows) = (heads.row(), x.len() / hidden);
        let mut normed = Buffer::new(rows * hidden);
        run(Norm { x, weight: &self.norm, epsilon, out: &mut normed });
        let mut at = 0;
        for linear in &self.inward {
            linear.forward(&normed, first, &mut qkv[at..], row, false);
            at += linear.outputs();
        }
        if let Some((query_norm, key_norm)) = &self.head_norms {
            let query = heads.query * heads.width;
            let turned = raw.len() / rows;
            for (qkv, raw) in qkv.chunks_exact_mut(row).zip(raw.chunks_exact_mut(turned)) {
                raw.copy_from_slice(&qkv[..turned]);
                let (out_query, out_key) = qkv[..turned].split_at_mut(query);
                run(Norm { x: &raw[..query], weight: query_norm, epsilon, out: out_query });
                run(Norm { x: &raw[query..], weight: key_norm, epsilon, out: out_key });
            }
        }
        run(Turn {
            rotary: &self.context.rotary,
            rows: qkv,
            row,
            heads: heads.query + heads.key,
            positions: &self.context.positions[first..first + rows],
            direction: 1.0,
            total: None,
        });
    }

    /// The forward pass.
    pub(crate) fn forward(&self, x: &[f32]) -> (Vec<f32>, Kept) {
        let (heads, hidden) = (self.context.heads, self.norm.len());
        let (tokens, row, width) = (x.len() / hidden, heads.row(), heads.out());
        let mut qkv = Buffer::new(tokens * row);
        let turned = if self.head_norms.is_some() { (heads.query + heads.key) * heads.width } else { 0 };
        let mut raw = Buffer::new(tokens * turned);
        let blocks = x.par_chunks(ROW_BLOCK * hidden).zip(qkv.par_chunks_mut(ROW_BLOCK * row)).enumerate();
        if turned > 0 {
            blocks.zip(raw.par_chunks_mut(ROW_BLOCK * turned)).for_each(|((index, (x, qkv)), raw)| {
                self.project(x, index * ROW_BLOCK, qkv, raw);
            });
        } else {
            blocks.for_each(|(index, (x, qkv))| self.project(x, index * ROW_BLOCK, qkv, &mut []));
        }
        let mut attended = Buffer::new(tokens * width);
        let mut log_sum_exp = Buffer::new(tokens * heads.query);
        attention::forward(&qkv, &self.context.offsets, heads, &mut attended, &mut log_sum_exp);
        let mut out = x.to_vec();
        out.par_chunks_mut(ROW_BLOCK * hidden)
            .zip(attended.par_chunks(ROW_BLOCK * width))
            .enumerate()
            .for_each(|(index, (out, attended))| {
                self.out.forward(attended, index * ROW_BLOCK, out, hidden, true);
            });
        (out, Kept { qkv, raw: (turned > 0).then_some(raw), attended, log_sum_exp })
    }

    /// Gradient of the input from that of the output; gradients of the weights go to the weights.
    pub(crate) fn backward(&self, x: &[f32], kept: Kept, dy: Vec<f32>) -> Vec<f32> {
        let (heads, hidden, context) = (self.context.heads, self.norm.len(), self.context);
        let (tokens, row, width) = (x.len() / hidden, heads.row(), heads.out());
        let mut dattended = Buffer::new(tokens * width);
        dattended
            .par_chunks_mut(ROW_BLOCK * width)
            .zip(dy.par_chunks(ROW_BLOCK * hidden))
            .enumerate()
            .for_each(|(index, (dattended, dy))| {
                let (rows, dy) = (dy.len() / hidden, Strided::rows(dy, hidden));
                self.out.input_gradient(rows, dy, index * ROW_BLOCK, dattended, false);
            });
        let operand = Linear::gradient_operand(&kept.attended, width, context.train_base);
        self.out.weight_gradients(tokens, Strided::rows(&dy, hidden), &kept.attended, operand.as_ref());
        drop(operand);
        let mut dqkv = Buffer::new(tokens * row);
        let saved = Saved { qkv: &kept.qkv, out: &kept.attended, log_sum_exp: &kept.log_sum_exp };
        attention::backward(saved, &dattended, &context.offsets, heads, &mut dqkv);
        drop(dattended);
        let raw = kept.raw;
        drop((kept.qkv, kept.attended, kept.log_sum_exp));

        dqkv.par_chunks_mut(ROW_BLOCK * row).zip(context.positions.par_chunks(ROW_BLOCK)).for_each(
            |(rows, positions)| {
                let (rotary, heads) = (&context.rotary, heads.query + heads.key);
                run(Turn { rotary, rows, row, heads, positions, direction: -1.0, total: None });
            },
        );
        if let (Some(raw), Some(norms)) = (&raw, &self.head_norms) {
            self.head_norms_backward(raw, norms, &mut dqkv);
        }
        drop(raw);

        let mut normed = Buffer::new(x.len());
        let mut dnormed = Buffer::new(x.len());
        x.par_chunks(ROW_BLOCK * hidden)
            .zip(dqkv.par_chunks(ROW_BLOCK * row))
            .zip(normed.par_chunks_mut(ROW_BLOCK * hidden).zip(dnormed.par_chunks_mut(ROW_BLOCK * hidden)))
            .enumerate()
            .for_each(|(index, ((x, dqkv), (normed, dnormed)))| {
                run(Norm { x, weight: &self.norm, epsilon: context.epsilon, out: normed });
                let mut at = 0;
                for linear in &self.inward {
                    let dy = Strided::rows(&dqkv[at..], row);
                    linear.input_gradient(x.len() / hidden, dy, index * ROW_BLOCK, dnormed, at > 0);
                    at += linear.outputs();
                }
            });
        let operand = Linear::gradient_operand(&normed, hidden, context.train_base);
        let mut at = 0;
        for linear in &self.inward {
            linear.weight_gradients(tokens, Strided::rows(&dqkv[at..], row), &normed, operand.as_ref());
            at += linear.outputs();
        }
        let mut dx = dy;
        norm_backward(x, &self.layer.attention_norm, context, &dnormed, &mut dx);
        dx
    }

    /// Replaces gradients of normed query and key heads by those of the heads before their norms.
    fn head_norms_backward(&self, raw: &[f32], norms: &(Numbers<'_>, Numbers<'_>), dqkv: &mut [f32]) {
        let (heads, context) = (self.context.heads, self.context);
        let (row, query) = (heads.row(), heads.query * heads.width);
        let turned = (heads.query + heads.key) * heads.width;
        let parts: Vec<(Vec<f32>, Vec<f32>)> = dqkv
            .par_chunks_mut(ROW_BLOCK * row)
            .zip(raw.par_chunks(ROW_BLOCK * turned))
            .map(|(dqkv, raw)| {
                let (mut dquery_norm, mut dkey_norm) = (vec![0.0; heads.width], vec![0.0; heads.width]);
                let mut dy = vec![0.0; turned];
                for (dqkv, raw) in dqkv.chunks_exact_mut(row).zip(raw.chunks_exact(turned)) {
                    dy.copy_from_slice(&dqkv[..turned]);
                    dqkv[..turned].fill(0.0);
                    let (dquery, dkey) = dqkv[..turned].split_at_mut(query);
                    for (x, weight, dy, dx, dweight) in [
                        (&raw[..query], &norms.0, &dy[..query], dquery, &mut dquery_norm),
                        (&raw[query..], &norms.1, &dy[query..], dkey, &mut dkey_norm),
                    ] {
                        run(NormBackward { x, weight, epsilon: context.epsilon, dy, dx, dweight });
                    }
                }
                (dquery_norm, dkey_norm)
            })
            .collect();
        let (query_parts, key_parts) = parts.into_iter().unzip();
        if let Some((query, key)) = &self.layer.head_norms {
            keep_gradient(query, context, query_parts);
            keep_gradient(key, context, key_parts);
        }
    }
}
