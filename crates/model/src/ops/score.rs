//! The head as one node: log-probability and entropy of chosen rows, in chunks, without a tokens × vocabulary matrix.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{input, tensor, with_numbers};
use crate::kernels::matmul::{Strided, gemm, weight_gradient};
use crate::kernels::rows::{LogSumExp, ScoreBackward, run};
use crate::parameter::Weight;

/// Numbers of logits that exist at a time in the backward pass, unless 64 rows need more.
const CHUNK: usize = 1 << 21;
/// Rows that one thread scores at a time in the forward pass.
const FORWARD_ROWS: usize = 64;

/// `hidden [tokens, width]` and the pass's thread → `[2, rows]`: log-probabilities above entropies. The head's gradient goes
/// to the head.
pub(crate) struct Score {
    /// `[vocabulary, width]`
    pub(crate) head: Weight,
    /// Whether the head wants a gradient.
    pub(crate) train_head: bool,
    /// Which row of `hidden` each score reads.
    pub(crate) rows: Vec<u32>,
    /// The id whose log-probability is asked for.
    pub(crate) targets: Vec<u32>,
    /// 1 / temperature, which multiplies the logits.
    pub(crate) inverse_temperature: f32,
    /// Log-sum-exp and entropy of each row, from the forward pass.
    pub(crate) saved: Mutex<Vec<(f32, f32)>>,
}

/// The rows of a matrix, one after the other.
fn gather(matrix: &[f32], rows: &[u32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(&matrix[row as usize * width..(row as usize + 1) * width]);
    }
    out
}

/// Tempered logits of gathered rows.
fn logits(hidden: &[f32], head: &[f32], width: usize, inverse_temperature: f32, out: &mut [f32]) {
    let (rows, vocabulary) = (hidden.len() / width, head.len() / width);
    gemm(
        rows,
        vocabulary,
        width,
        out,
        vocabulary,
        false,
        Strided::rows(hidden, width),
        Strided::rows(head, width).transposed(),
    );
    if inverse_temperature != 1.0 {
        for value in out {
            *value *= inverse_temperature;
        }
    }
}

impl Score {
    /// Log-probability, log-sum-exp and entropy of every row.
    pub(crate) fn forward(&self, hidden: &[f32], head: &[f32], width: usize) -> Vec<(f32, f32, f32)> {
        let vocabulary = head.len() / width;
        self.rows
            .par_chunks(FORWARD_ROWS)
            .zip(self.targets.par_chunks(FORWARD_ROWS))
            .flat_map_iter(|(rows, targets)| {
                let gathered = gather(hidden, rows, width);
                let mut out = vec![0.0; rows.len() * vocabulary];
                logits(&gathered, head, width, self.inverse_temperature, &mut out);
                let scores: Vec<(f32, f32, f32)> = out
                    .chunks_exact(vocabulary)
                    .zip(targets)
                    .map(|(row, &target)| {
                        let (log_sum_exp, mean) = run(LogSumExp { row });
                        (row[target as usize] - log_sum_exp, log_sum_exp, log_sum_exp - mean)
                    })
                    .collect();
                scores
            })
            .collect()
    }

    fn backward(&self, hidden: &[f32], width: usize, gradient: &[f32]) -> Vec<f32> {
        let head = self.head.read();
        let head: &[f32] = &head;
        let (count, vocabulary) = (self.rows.len(), head.len() / width);
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dhidden = vec![0.0; hidden.len()];
        let chunk = (CHUNK / vocabulary.max(1)).clamp(64, count.max(64));
        let mut dlogits = vec![0.0; chunk.min(count) * vocabulary];
        let mut dgathered = vec![0.0; chunk.min(count) * width];
        for first in (0..count).step_by(chunk) {
            let rows = chunk.min(count - first);
            let gathered = gather(hidden, &self.rows[first..first + rows], width);
            let (dlogits, dgathered) = (&mut dlogits[..rows * vocabulary], &mut dgathered[..rows * width]);
            let block = FORWARD_ROWS.min(rows.div_ceil(rayon::current_num_threads().max(1))).max(1);
            dlogits
                .par_chunks_mut(block * vocabulary)
                .zip(dgathered.par_chunks_mut(block * width))
                .zip(gathered.par_chunks(block * width))
                .enumerate()
                .for_each(|(index, ((dlogits, dgathered), gathered))| {
                    logits(gathered, head, width, self.inverse_temperature, dlogits);
                    for (offset, row) in dlogits.chunks_exact_mut(vocabulary).enumerate() {
                        let at = first + index * block + offset;
                        let (log_sum_exp, entropy) = saved[at];
                        run(ScoreBackward {
                            row,
                            log_sum_exp,
                            entropy,
                            target: self.targets[at] as usize,
                            d_log_prob: gradient[at],
                            d_entropy: gradient[count + at],
                            scale: self.inverse_temperature,
                        });
                    }
                    let rows = gathered.len() / width;
                    let dlogits = Strided::rows(dlogits, vocabulary);
                    gemm(
                        rows,
                        width,
                        vocabulary,
                        dgathered,
                        width,
                        false,
                        dlogits,
                        Strided::rows(head, width),
                    );
                });
            for (row, source) in self.rows[first..first + rows].iter().zip(dgathered.chunks_exact(width)) {
                let target = &mut dhidden[*row as usize * width..(*row as usize + 1) * width];
                for (target, value) in target.iter_mut().zip(source) {
                    *target += value;
                }
            }
            let dlogits = Strided::rows(dlogits, vocabulary);
            if self.train_head
                && let Some(parameter) = self.head.parameter()
            {
                parameter.accumulate(|dhead, add| {
                    weight_gradient(rows, dhead, width, dlogits, Strided::rows(&gathered, width), add);
                });
            }
        }
        dhidden
    }
}

impl CustomOp2 for Score {
    fn name(&self) -> &'static str {
        "score"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let scores = self.forward(input(hidden, layout, self.name())?, &self.head.read(), width);
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) =
            scores.iter().map(|&(_, log_sum_exp, entropy)| (log_sum_exp, entropy)).collect();
        let log_probs = scores.iter().map(|score| score.0);
        let out: Vec<f32> = log_probs.chain(scores.iter().map(|score| score.2)).collect();
        Ok((CpuStorage::F32(out), Shape::from((2, self.rows.len()))))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, width) = hidden.dims2()?;
        let dhidden = with_numbers(hidden, |hidden| {
            with_numbers(gradient, |gradient| Ok(self.backward(hidden, width, gradient)))
        })?;
        Ok((Some(tensor(dhidden, hidden.shape())?), None))
    }
}
