//! The head as one node: log-probability and entropy of chosen rows, without a tokens × vocabulary matrix.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::{input, tensor, with_numbers};
use crate::kernels::head::{Head, Scores};
use crate::parameter::Weight;

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
    /// What the forward pass found.
    pub(crate) saved: Mutex<Scores>,
}

/// The rows of a matrix, one after the other.
fn gather(matrix: &[f32], rows: &[u32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        out.extend_from_slice(&matrix[row as usize * width..(row as usize + 1) * width]);
    }
    out
}

/// The reverse: adds each row to its place in a matrix of zeros.
fn scatter(gathered: &[f32], rows: &[u32], width: usize, length: usize) -> Vec<f32> {
    let mut out = vec![0.0; length];
    for (row, source) in rows.iter().zip(gathered.chunks_exact(width)) {
        let target = &mut out[*row as usize * width..(*row as usize + 1) * width];
        for (target, value) in target.iter_mut().zip(source) {
            *target += value;
        }
    }
    out
}

impl Score {
    fn with_head<T>(&self, hidden: &[f32], work: impl FnOnce(Head<'_>) -> T) -> T {
        let (weight, width) = (self.head.read(), self.head.shape()[1]);
        let hidden = gather(hidden, &self.rows, width);
        work(Head {
            hidden: &hidden,
            weight: &weight,
            width,
            targets: &self.targets,
            inverse_temperature: self.inverse_temperature,
        })
    }

    /// Gives `work` the head's gradient, where it wants one, zeros in it if it is new.
    fn with_gradient(&self, work: impl FnOnce(Option<&mut [f32]>)) {
        match self.head.parameter().filter(|_| self.train_head) {
            None => work(None),
            Some(parameter) => parameter.accumulate(|gradient, add| {
                if !add {
                    gradient.fill(0.0);
                }
                work(Some(gradient));
            }),
        }
    }

    /// Log-probability, log-sum-exp and entropy of every row.
    pub(crate) fn forward(&self, hidden: &[f32]) -> Scores {
        self.with_head(hidden, |head| head.forward())
    }

    fn backward(&self, hidden: &[f32], gradient: &[f32]) -> Vec<f32> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let (width, count) = (self.head.shape()[1], self.rows.len());
        let (d_log_prob, d_entropy) = gradient.split_at(count);
        let d_entropy = d_entropy.iter().any(|value| *value != 0.0).then_some(d_entropy);
        let mut dgathered = vec![0.0; count * width];
        self.with_head(hidden, |head| {
            self.with_gradient(|dweight| {
                head.backward(&saved, d_log_prob, d_entropy, &mut dgathered, dweight);
            });
        });
        scatter(&dgathered, &self.rows, width, hidden.len())
    }

    /// Log-probabilities, and the gradient of `hidden` for a loss whose gradient with respect to the log-probabilities is
    /// known beforehand; the head's gradient goes to the head at once.
    pub(crate) fn cross_entropy(&self, hidden: &[f32], d_log_prob: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = self.head.shape()[1];
        let mut dgathered = vec![0.0; self.rows.len() * width];
        let mut log_prob = Vec::new();
        self.with_head(hidden, |head| {
            self.with_gradient(|dweight| {
                log_prob = head.cross_entropy(d_log_prob, &mut dgathered, dweight).log_prob;
            });
        });
        (log_prob, scatter(&dgathered, &self.rows, width, hidden.len()))
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
        let scores = self.forward(input(hidden, layout, self.name())?);
        let out = [scores.log_prob.as_slice(), &scores.entropy].concat();
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = scores;
        Ok((CpuStorage::F32(out), Shape::from((2, self.rows.len()))))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dhidden = with_numbers(hidden, |hidden| {
            with_numbers(gradient, |gradient| Ok(self.backward(hidden, gradient)))
        })?;
        Ok((Some(tensor(dhidden, hidden.shape())?), None))
    }
}
