//! The attention half of a layer as one node: `x + o(attention(rotate(q(n), k(n)), v(n)))` with n = RMSNorm(x).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::norm::{norm_backward, sum_in_order};
use super::{Tray, input, numbers, tensor, with_numbers};
use crate::kernels::attention::{self, Heads, Saved};
use crate::kernels::buffer::Buffer;
use crate::kernels::matmul::{ROW_BLOCK, Strided, gemm, weight_gradient};
use crate::kernels::rows::{Norm, Rotary, Turn, run};

/// The parameters' numbers, with query, key and value as one matrix.
pub(crate) struct AttentionWeights {
    pub(crate) norm: Vec<f32>,
    /// `[(query + 2·key)·width, hidden]`.
    pub(crate) qkv: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// `[hidden, query·width]`.
    pub(crate) out: Vec<f32>,
}

impl AttentionWeights {
    /// Copies them out of the tensors norm, q, q bias, k, k bias, v, v bias, o.
    pub(crate) fn read(parameters: &[Tensor; 8]) -> Result<AttentionWeights> {
        let [norm, q, q_bias, k, k_bias, v, v_bias, out] = parameters;
        let join = |parts: [&Tensor; 3]| -> Result<Vec<f32>> {
            let mut joined = Vec::with_capacity(parts.iter().map(|part| part.elem_count()).sum());
            for part in parts {
                with_numbers(part, |part| {
                    joined.extend_from_slice(part);
                    Ok(())
                })?;
            }
            Ok(joined)
        };
        Ok(AttentionWeights {
            norm: numbers(norm)?,
            qkv: join([q, k, v])?,
            bias: join([q_bias, k_bias, v_bias])?,
            out: numbers(out)?,
        })
    }
}

/// Where the sequences of a batch lie, and the position of every token.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) offsets: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) rotary: Arc<Rotary>,
}

impl Places {
    /// The places of packed sequences, each starting at position 0.
    pub(crate) fn new(offsets: &[u32], rotary: Arc<Rotary>) -> Places {
        let positions = offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]).collect();
        Places { offsets: offsets.to_vec(), positions, rotary }
    }
}

/// What the backward pass needs of the forward pass.
pub(crate) struct Kept {
    /// Query, key and value rows after the rotary embedding.
    qkv: Buffer,
    /// What attention gave, before the output projection.
    attended: Buffer,
    log_sum_exp: Buffer,
}

/// `x [tokens, hidden]` and the thread of the eight parameters → `[tokens, hidden]`.
pub(crate) struct Attention {
    /// norm, q, q bias, k, k bias, v, v bias, o.
    pub(crate) parameters: [Tensor; 8],
    pub(crate) heads: Heads,
    pub(crate) epsilon: f32,
    pub(crate) places: Arc<Places>,
    pub(crate) tray: Tray,
    pub(crate) saved: Mutex<Option<Kept>>,
    /// Whether a backward pass may come.
    pub(crate) keep: bool,
}

impl Attention {
    /// The forward pass over slices.
    pub(crate) fn forward(
        x: &[f32],
        weights: &AttentionWeights,
        heads: Heads,
        epsilon: f32,
        places: &Places,
    ) -> (Vec<f32>, Kept) {
        let hidden = weights.norm.len();
        let tokens = x.len() / hidden;
        let row = heads.row();
        let mut qkv = Buffer::new(tokens * row);
        x.par_chunks(ROW_BLOCK * hidden)
            .zip(qkv.par_chunks_mut(ROW_BLOCK * row))
            .zip(places.positions.par_chunks(ROW_BLOCK))
            .for_each(|((x, qkv), positions)| {
                let rows = positions.len();
                let mut normed = Buffer::new(rows * hidden);
                run(Norm { x, weight: &weights.norm, epsilon, out: &mut normed });
                for target in qkv.chunks_exact_mut(row) {
                    target.copy_from_slice(&weights.bias);
                }
                let weight = Strided::rows(&weights.qkv, hidden).transposed();
                gemm(rows, row, hidden, qkv, row, true, Strided::rows(&normed, hidden), weight);
                run(Turn {
                    rotary: &places.rotary,
                    rows: qkv,
                    row,
                    heads: heads.query + heads.key,
                    positions,
                    direction: 1.0,
                    total: None,
                });
            });
        let width = heads.out();
        let mut attended = Buffer::new(tokens * width);
        let mut log_sum_exp = Buffer::new(tokens * heads.query);
        attention::forward(&qkv, &places.offsets, heads, &mut attended, &mut log_sum_exp);
        let mut out = x.to_vec();
        out.par_chunks_mut(ROW_BLOCK * hidden).zip(attended.par_chunks(ROW_BLOCK * width)).for_each(
            |(out, attended)| {
                let weight = Strided::rows(&weights.out, width).transposed();
                gemm(
                    out.len() / hidden,
                    hidden,
                    width,
                    out,
                    hidden,
                    true,
                    Strided::rows(attended, width),
                    weight,
                );
            },
        );
        (out, Kept { qkv, attended, log_sum_exp })
    }

    fn backward(&self, x: &[f32], kept: &Kept, dy: &[f32]) -> Result<(Vec<f32>, Vec<Tensor>)> {
        let weights = AttentionWeights::read(&self.parameters)?;
        let (heads, hidden) = (self.heads, weights.norm.len());
        let tokens = x.len() / hidden;
        let (row, width) = (heads.row(), heads.out());
        let mut dattended = Buffer::new(tokens * width);
        dattended.par_chunks_mut(ROW_BLOCK * width).zip(dy.par_chunks(ROW_BLOCK * hidden)).for_each(
            |(dattended, dy)| {
                let weight = Strided::rows(&weights.out, width);
                gemm(
                    dy.len() / hidden,
                    width,
                    hidden,
                    dattended,
                    width,
                    false,
                    Strided::rows(dy, hidden),
                    weight,
                );
            },
        );
        let mut dqkv = Buffer::new(tokens * row);
        let saved = Saved { qkv: &kept.qkv, out: &kept.attended, log_sum_exp: &kept.log_sum_exp };
        attention::backward(saved, &dattended, &self.places.offsets, heads, &mut dqkv);
        let mut dout = vec![0.0; weights.out.len()];
        let attended = Strided::rows(&kept.attended, width);
        weight_gradient(tokens, &mut dout, width, Strided::rows(dy, hidden), attended, false);

        let mut normed = Buffer::new(x.len());
        drop(dattended);
        let mut dnormed = Buffer::new(x.len());
        let bias_parts: Vec<Vec<f32>> = x
            .par_chunks(ROW_BLOCK * hidden)
            .zip(dqkv.par_chunks_mut(ROW_BLOCK * row).zip(self.places.positions.par_chunks(ROW_BLOCK)))
            .zip(normed.par_chunks_mut(ROW_BLOCK * hidden).zip(dnormed.par_chunks_mut(ROW_BLOCK * hidden)))
            .map(|((x, (dqkv, positions)), (normed, dnormed))| {
                run(Norm { x, weight: &weights.norm, epsilon: self.epsilon, out: normed });
                let mut dbias = vec![0.0; row];
                run(Turn {
                    rotary: &self.places.rotary,
                    rows: dqkv,
                    row,
                    heads: heads.query + heads.key,
                    positions,
                    direction: -1.0,
                    total: Some(&mut dbias),
                });
                let weight = Strided::rows(&weights.qkv, hidden);
                gemm(positions.len(), hidden, row, dnormed, hidden, false, Strided::rows(dqkv, row), weight);
                dbias
            })
            .collect();
        let dbias = sum_in_order(bias_parts, row);
        let mut dx = dy.to_vec();
        let dnorm = norm_backward(x, &weights.norm, self.epsilon, &dnormed, &mut dx);
        let mut dweight = vec![0.0; weights.qkv.len()];
        weight_gradient(
            tokens,
            &mut dweight,
            hidden,
            Strided::rows(&dqkv, row),
            Strided::rows(&normed, hidden),
            false,
        );

        let [norm, q, q_bias, k, k_bias, v, v_bias, out] = &self.parameters;
        let (query, key) = (heads.query * heads.width, heads.key * heads.width);
        let part = |from: usize, to: usize, like: &Tensor| {
            tensor(dweight[from * hidden..to * hidden].to_vec(), like.shape())
        };
        let bias = |from: usize, to: usize, like: &Tensor| tensor(dbias[from..to].to_vec(), like.shape());
        let gradients = vec![
            tensor(dnorm, norm.shape())?,
            part(0, query, q)?,
            bias(0, query, q_bias)?,
            part(query, query + key, k)?,
            bias(query, query + key, k_bias)?,
            part(query + key, row, v)?,
            bias(query + key, row, v_bias)?,
            tensor(dout, out.shape())?,
        ];
        Ok((dx, gradients))
    }
}

impl CustomOp2 for Attention {
    fn name(&self) -> &'static str {
        "attention block"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weights = AttentionWeights::read(&self.parameters)?;
        let x = input(x, layout, self.name())?;
        let (out, kept) = Attention::forward(x, &weights, self.heads, self.epsilon, &self.places);
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = self.keep.then_some(kept);
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
        let kept = saved.as_ref().ok_or_else(|| candle_core::Error::BackwardNotSupported {
            op: "attention block without saved values",
        })?;
        let (dx, gradients) = with_numbers(x, |x| with_numbers(gradient, |dy| self.backward(x, kept, dy)))?;
        self.tray.put(gradients);
        Ok((Some(tensor(dx, x.shape())?), Some(thread.zeros_like()?)))
    }
}
