//! The head over chosen rows: log-probabilities and entropies, their gradients, and cross-entropy in one go.
//!
//! The vocabulary is walked in tiles, with a log-sum-exp that is carried on from tile to tile, so that a matrix of rows ×
//! vocabulary never exists unless it is small. The head's matrix is read once a pass for up to 2,048 rows.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::matmul::{ROW_BLOCK, Strided};
use super::operand::{Operand, add_weight_gradient};
use super::rows::{LogSumExp, ScoreBackward, run};

/// Logits' gradients that exist at a time (16 MiB), unless many rows need more for the narrowest tile.
const CHUNK: usize = 1 << 22;
/// Rows of one backward pass over the head's matrix.
const ROWS: usize = 2048;
/// Logits that [`Head::cross_entropy`] may keep (16 MiB).
const KEPT: usize = 1 << 22;
/// Fewest rows for which keeping the logits pays: with fewer, adding up the weight gradient costs more than it saves.
const FEWEST: usize = 256;
/// Tiles are a multiple of as many ids, so that they fill panels and a thread's rows of the weight gradient.
const STEP: usize = 96;

/// Rows to score with a head.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// `[rows, width]`, gathered.
    pub(crate) hidden: &'a [f32],
    /// `[vocabulary, width]`.
    pub(crate) weight: &'a [f32],
    pub(crate) width: usize,
    /// The id whose log-probability is asked for, one a row, each inside the vocabulary.
    pub(crate) targets: &'a [u32],
    /// 1 / temperature, which multiplies the logits.
    pub(crate) inverse_temperature: f32,
}

/// What the head says of each row, in nats.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scores {
    /// ln p(target).
    pub(crate) log_prob: Vec<f32>,
    /// Of the tempered logits.
    pub(crate) log_sum_exp: Vec<f32>,
    /// −Σ p ln p.
    pub(crate) entropy: Vec<f32>,
}

/// A log-sum-exp, the mean of the logits under softmax and the target's logit, over the tiles seen so far.
#[derive(Clone, Copy)]
struct Running {
    log_sum_exp: f64,
    mean: f64,
    target: f32,
}

impl Running {
    const NOTHING: Running = Running { log_sum_exp: f64::NEG_INFINITY, mean: 0.0, target: f32::NAN };

    /// Takes in the logits of a tile; `target` lies outside of it for most.
    fn add(&mut self, logits: &[f32], target: usize) {
        let (log_sum_exp, mean) = run(LogSumExp { row: logits });
        let (log_sum_exp, mean) = (f64::from(log_sum_exp), f64::from(mean));
        if let Some(logit) = logits.get(target) {
            self.target = *logit;
        }
        let peak = self.log_sum_exp.max(log_sum_exp);
        let total = peak + ((self.log_sum_exp - peak).exp() + (log_sum_exp - peak).exp()).ln();
        let (before, here) = ((self.log_sum_exp - total).exp(), (log_sum_exp - total).exp());
        self.mean = before * self.mean + here * mean;
        self.log_sum_exp = total;
    }
}

impl Scores {
    fn push(&mut self, running: &Running) {
        self.log_prob.push((f64::from(running.target) - running.log_sum_exp) as f32);
        self.log_sum_exp.push(running.log_sum_exp as f32);
        self.entropy.push((running.log_sum_exp - running.mean) as f32);
    }
}

impl<'a> Head<'a> {
    fn rows(&self) -> usize {
        self.targets.len()
    }

    fn vocabulary(&self) -> usize {
        self.weight.len() / self.width
    }

    /// Ids in a tile for `rows` rows.
    fn tile(&self, rows: usize) -> usize {
        (CHUNK / rows.max(1) / STEP * STEP).clamp(10 * STEP, 40 * STEP)
    }

    /// The first id of each tile of `size` ids, and the tile's part of the matrix.
    fn tiles(&self, size: usize) -> impl Iterator<Item = (usize, &'a [f32])> {
        let weight = self.weight;
        weight.chunks(size * self.width).enumerate().map(move |(index, part)| (index * size, part))
    }

    /// The rows times the inverse temperature, which makes tempered logits of them.
    fn tempered(&self) -> Buffer {
        let mut tempered = Buffer::new(self.hidden.len());
        for (to, from) in tempered.iter_mut().zip(self.hidden) {
            *to = from * self.inverse_temperature;
        }
        tempered
    }

    /// Rows `first..first + count`.
    fn part(&self, first: usize, count: usize) -> Head<'a> {
        Head {
            hidden: &self.hidden[first * self.width..(first + count) * self.width],
            targets: &self.targets[first..first + count],
            ..*self
        }
    }

    /// Log-probability, log-sum-exp and entropy of every row.
    pub(crate) fn forward(&self) -> Scores {
        let width = self.width;
        let tempered = self.tempered();
        let mut running = vec![Running::NOTHING; self.rows()];
        // Every thread holds 64 rows of a tile.
        for (first, weight) in self.tiles(40 * STEP) {
            let operand = Operand::transposed(weight, width);
            let tile = weight.len() / width;
            running
                .par_chunks_mut(ROW_BLOCK)
                .zip(tempered.par_chunks(ROW_BLOCK * width))
                .zip(self.targets.par_chunks(ROW_BLOCK))
                .for_each(|((running, hidden), targets)| {
                    let mut logits = Buffer::new(targets.len() * tile);
                    operand.multiply(targets.len(), Strided::rows(hidden, width), &mut logits, tile, false);
                    for ((running, logits), &target) in
                        running.iter_mut().zip(logits.chunks_exact(tile)).zip(targets)
                    {
                        running.add(logits, (target as usize).wrapping_sub(first));
                    }
                });
        }
        let mut scores = Scores::default();
        running.iter().for_each(|running| scores.push(running));
        scores
    }

    /// Adds the gradients of the rows and of the matrix, given those of log-probabilities and entropies.
    ///
    /// `dhidden` is `[rows, width]`; a frozen head has no `dweight`.
    pub(crate) fn backward(
        &self,
        scores: &Scores,
        d_log_prob: &[f32],
        d_entropy: Option<&[f32]>,
        dhidden: &mut [f32],
        mut dweight: Option<&mut [f32]>,
    ) {
        let width = self.width;
        for first in (0..self.rows()).step_by(ROWS) {
            let rows = ROWS.min(self.rows() - first);
            let part = self.part(first, rows);
            let dhidden = &mut dhidden[first * width..(first + rows) * width];
            let tempered = part.tempered();
            let inputs = dweight.is_some().then(|| Operand::plain(part.hidden, width));
            let size = self.tile(rows);
            let mut dlogits = Buffer::new(rows * size.min(self.vocabulary()));
            for (id, weight) in self.tiles(size) {
                let tile = weight.len() / width;
                let (forth, back) = (Operand::transposed(weight, width), Operand::plain(weight, width));
                let dlogits = &mut dlogits[..rows * tile];
                dlogits
                    .par_chunks_mut(ROW_BLOCK * tile)
                    .zip(dhidden.par_chunks_mut(ROW_BLOCK * width))
                    .zip(tempered.par_chunks(ROW_BLOCK * width))
                    .enumerate()
                    .for_each(|(block, ((dlogits, dhidden), tempered))| {
                        let count = tempered.len() / width;
                        forth.multiply(count, Strided::rows(tempered, width), dlogits, tile, false);
                        for (offset, row) in dlogits.chunks_exact_mut(tile).enumerate() {
                            let at = first + block * ROW_BLOCK + offset;
                            run(ScoreBackward {
                                row,
                                log_sum_exp: scores.log_sum_exp[at],
                                entropy: scores.entropy[at],
                                target: (self.targets[at] as usize).wrapping_sub(id),
                                d_log_prob: d_log_prob[at],
                                d_entropy: d_entropy.map_or(0.0, |d_entropy| d_entropy[at]),
                                scale: self.inverse_temperature,
                            });
                        }
                        back.multiply(count, Strided::rows(dlogits, tile), dhidden, width, true);
                    });
                if let (Some(inputs), Some(dweight)) = (&inputs, &mut dweight) {
                    let dweight = &mut dweight[id * width..(id + tile) * width];
                    add_weight_gradient(inputs, dweight, Strided::rows(dlogits, tile), true);
                }
            }
        }
    }

    /// [`Head::forward`] and [`Head::backward`] in one, for a loss whose gradients with respect to the log-probabilities are
    /// known before them, as those of cross-entropy are (minus the token's weight).
    ///
    /// Where the vocabulary is small enough to keep the logits of a few hundred rows, they are computed once and not twice.
    pub(crate) fn cross_entropy(
        &self,
        d_log_prob: &[f32],
        dhidden: &mut [f32],
        mut dweight: Option<&mut [f32]>,
    ) -> Scores {
        let (width, vocabulary) = (self.width, self.vocabulary());
        let chunk = KEPT / vocabulary.max(1) / ROW_BLOCK * ROW_BLOCK;
        if chunk < FEWEST.min(self.rows()) {
            let scores = self.forward();
            self.backward(&scores, d_log_prob, None, dhidden, dweight);
            return scores;
        }
        let mut scores = Scores::default();
        for first in (0..self.rows()).step_by(chunk) {
            let rows = chunk.min(self.rows() - first);
            let part = self.part(first, rows);
            let dhidden = &mut dhidden[first * width..(first + rows) * width];
            let tempered = part.tempered();
            let mut logits = Buffer::new(rows * vocabulary);
            for (id, weight) in self.tiles(40 * STEP) {
                let forth = Operand::transposed(weight, width);
                let blocks = logits.par_chunks_mut(ROW_BLOCK * vocabulary);
                blocks.zip(tempered.par_chunks(ROW_BLOCK * width)).for_each(|(logits, hidden)| {
                    let count = hidden.len() / width;
                    forth.multiply(count, Strided::rows(hidden, width), &mut logits[id..], vocabulary, false);
                });
            }
            let found: Vec<Running> = logits
                .par_chunks_mut(vocabulary)
                .zip(part.targets)
                .zip(&d_log_prob[first..first + rows])
                .map(|((row, &target), &d_log_prob)| {
                    let mut running = Running::NOTHING;
                    running.add(row, target as usize);
                    run(ScoreBackward {
                        row,
                        log_sum_exp: running.log_sum_exp as f32,
                        entropy: 0.0,
                        target: target as usize,
                        d_log_prob,
                        d_entropy: 0.0,
                        scale: self.inverse_temperature,
                    });
                    running
                })
                .collect();
            found.iter().for_each(|running| scores.push(running));
            for (id, weight) in self.tiles(40 * STEP) {
                let back = Operand::plain(weight, width);
                let blocks = logits.par_chunks(ROW_BLOCK * vocabulary);
                blocks.zip(dhidden.par_chunks_mut(ROW_BLOCK * width)).for_each(|(dlogits, dhidden)| {
                    let count = dhidden.len() / width;
                    let dlogits = Strided::rows(&dlogits[id..], vocabulary);
                    back.multiply(count, dlogits, dhidden, width, true);
                });
            }
            if let Some(dweight) = &mut dweight {
                let inputs = Operand::plain(part.hidden, width);
                add_weight_gradient(&inputs, dweight, Strided::rows(&logits, vocabulary), true);
            }
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    const WIDTH: usize = 24;

    /// Softmax of one row after another in f64: log-probability, log-sum-exp, entropy, and the gradients.
    #[allow(clippy::type_complexity, reason = "five plain lists")]
    fn plain(head: &Head<'_>, d_log_prob: &[f32], d_entropy: &[f32]) -> (Vec<[f64; 3]>, Vec<f64>, Vec<f64>) {
        let scale = f64::from(head.inverse_temperature);
        let (mut scores, mut dhidden) = (Vec::new(), vec![0.0; head.hidden.len()]);
        let mut dweight = vec![0.0; head.weight.len()];
        for (index, hidden) in head.hidden.chunks(WIDTH).enumerate() {
            let dot =
                |row: &[f32]| row.iter().zip(hidden).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let logits: Vec<f64> = head.weight.chunks(WIDTH).map(|row| dot(row) * scale).collect();
            let log_sum_exp = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            let entropy = -logits.iter().map(|l| (l - log_sum_exp).exp() * (l - log_sum_exp)).sum::<f64>();
            let target = head.targets[index] as usize;
            scores.push([logits[target] - log_sum_exp, log_sum_exp, entropy]);
            for (id, logit) in logits.iter().enumerate() {
                let p = (logit - log_sum_exp).exp();
                let hit = if id == target { 1.0 } else { 0.0 };
                let d = f64::from(d_log_prob[index]) * (hit - p)
                    - f64::from(d_entropy[index]) * p * (logit - log_sum_exp + entropy);
                for at in 0..WIDTH {
                    dhidden[index * WIDTH + at] += d * scale * f64::from(head.weight[id * WIDTH + at]);
                    dweight[id * WIDTH + at] += d * scale * f64::from(hidden[at]);
                }
            }
        }
        (scores, dhidden, dweight)
    }

    fn close(got: &[f32], want: impl Iterator<Item = f64>, what: &str) {
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            let difference = (f64::from(*got) - want).abs();
            assert!(difference <= 3e-5 * (1.0 + want.abs()), "{what} {index}: {got}, expected {want}");
        }
    }

    /// Compares both ways to score with softmax written out, for a vocabulary and a number of rows.
    fn check(vocabulary: usize, rows: usize, temperature: f32) {
        let hidden = noise(1, rows * WIDTH);
        let weight: Vec<f32> = noise(2, vocabulary * WIDTH);
        let targets: Vec<u32> = (0..rows).map(|row| ((row * 7919 + 3) % vocabulary) as u32).collect();
        let head = Head {
            hidden: &hidden,
            weight: &weight,
            width: WIDTH,
            targets: &targets,
            inverse_temperature: 1.0 / temperature,
        };
        let (d_log_prob, d_entropy, nothing) = (noise(3, rows), noise(4, rows), vec![0.0; rows]);
        let (want, dhidden, dweight) = plain(&head, &d_log_prob, &d_entropy);
        let scores = head.forward();
        close(&scores.log_prob, want.iter().map(|row| row[0]), "log-probability");
        close(&scores.log_sum_exp, want.iter().map(|row| row[1]), "log-sum-exp");
        close(&scores.entropy, want.iter().map(|row| row[2]), "entropy");
        let (mut dh, mut dw) = (vec![1.0; hidden.len()], vec![2.0; weight.len()]);
        head.backward(&scores, &d_log_prob, Some(&d_entropy), &mut dh, Some(&mut dw));
        close(&dh, dhidden.iter().map(|value| value + 1.0), "gradient of a row");
        close(&dw, dweight.iter().map(|value| value + 2.0), "gradient of the matrix");
        let mut frozen = vec![1.0; hidden.len()];
        head.backward(&scores, &d_log_prob, Some(&d_entropy), &mut frozen, None);
        assert_eq!(frozen, dh);

        let (_, dhidden, dweight) = plain(&head, &d_log_prob, &nothing);
        let (mut dh, mut dw) = (vec![1.0; hidden.len()], vec![2.0; weight.len()]);
        let scores = head.cross_entropy(&d_log_prob, &mut dh, Some(&mut dw));
        close(&scores.log_prob, want.iter().map(|row| row[0]), "log-probability");
        close(&scores.entropy, want.iter().map(|row| row[2]), "entropy");
        close(&dh, dhidden.iter().map(|value| value + 1.0), "gradient of a row");
        close(&dw, dweight.iter().map(|value| value + 2.0), "gradient of the matrix");
    }

    #[test]
    fn a_small_vocabulary_agrees_with_softmax_written_out() {
        check(37, 150, 0.7);
        check(1000, 3, 1.0);
    }

    #[test]
    fn a_vocabulary_of_several_tiles_agrees_with_softmax_written_out() {
        check(9001, 70, 1.3);
    }

    #[test]
    fn a_vocabulary_too_large_to_keep_logits_agrees_with_softmax_written_out() {
        check(40_000, 514, 1.0);
    }

    #[test]
    fn more_rows_than_one_pass_takes_agree_with_softmax_written_out() {
        check(50, 2100, 1.0);
    }
}
