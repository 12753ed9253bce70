//! Preference training on pairs of answers to one prompt: DPO, over all tokens or over those that differ.
//!
//! Metrics of every step: `loss` (mean over the pairs), `margin` (mean of β times the difference of the log-ratios, in nats),
//! `accuracy` (share of pairs whose chosen side has gained more than the rejected one), `learning_rate`, `gradient_norm`.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use vul2safe_model::{Gradients, Model, Packed, Pass, ScoredPass};

use crate::math::{PreferenceSums, preference_loss};
use crate::optimizer::{AdamW, OptimizerConfig, gradients};
use crate::seeds::{Stream, permutation};
use crate::supervised::{Log, TrainSummary};
use crate::{TrainError, batches, broken_weight};

/// Two answers to one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Preference {
    /// Ids that are read; not empty.
    pub prompt: Vec<u32>,
    /// Ids of the better answer.
    pub chosen: Vec<u32>,
    /// Ids of the worse answer.
    pub rejected: Vec<u32>,
    /// Which tokens of the better answer count.
    pub chosen_counts: Vec<bool>,
    /// Which tokens of the worse answer count.
    pub rejected_counts: Vec<bool>,
}

/// Settings of [`prefer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreferenceConfig {
    /// β: how hard the policy is held to the reference.
    pub beta: f64,
    /// Passes over the pairs.
    pub epochs: usize,
    /// Pairs of one optimiser step.
    pub pairs_per_batch: usize,
    /// Tokens of one forward and backward pass, at most (a longer pair is a pass of its own).
    pub tokens_per_microbatch: usize,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Seed of the order.
    pub seed: u64,
}

impl Default for PreferenceConfig {
    fn default() -> Self {
        Self {
            beta: 0.1,
            epochs: 2,
            pairs_per_batch: 32,
            tokens_per_microbatch: 1024,
            optimizer: OptimizerConfig { learning_rate: 5e-5, ..OptimizerConfig::default() },
            seed: 0,
        }
    }
}

impl PreferenceConfig {
    /// Optimiser steps for so many pairs.
    pub fn steps(&self, pairs: usize) -> usize {
        self.epochs * pairs.div_ceil(self.pairs_per_batch.max(1))
    }

    /// Refuses values with which the training makes no sense.
    ///
    /// # Errors
    /// [`TrainError::Config`] names the field.
    pub fn check(&self) -> Result<(), TrainError> {
        self.optimizer.check()?;
        if !(self.beta.is_finite() && self.beta > 0.0) {
            let problem = format!("is {}, but must be above 0", self.beta);
            return Err(TrainError::Config { field: "beta", problem });
        }
        for (field, value) in [("epochs", self.epochs), ("pairs_per_batch", self.pairs_per_batch)] {
            if value == 0 {
                return Err(TrainError::Config { field, problem: "is 0, but must be at least 1".to_owned() });
            }
        }
        Ok(())
    }
}

/// Trains `model` to prefer the chosen sides; `reference` is never changed.
///
/// # Errors
/// [`TrainError::Config`]; [`TrainError::NoData`] without pairs, or for one whose marks do not fit its answers or mark nothing on
/// both sides; [`TrainError::NotFinite`]; [`TrainError::Callback`] from `log`.
pub fn prefer(
    model: &Model,
    reference: &Model,
    pairs: &[Preference],
    config: &PreferenceConfig,
    log: &mut Log<'_>,
) -> Result<TrainSummary, TrainError> {
    config.check()?;
    check_pairs(pairs)?;
    let start = Instant::now();
    let lengths: Vec<usize> = pairs.iter().map(Preference::tokens).collect();
    let mut optimizer = AdamW::over(model.trainable(), config.optimizer.clone());
    let planned = config.steps(pairs.len()) as u64;
    let mut summary =
        TrainSummary { steps: 0, tokens: 0, skipped: 0, first_loss: 0.0, last_loss: 0.0, seconds: 0.0 };
    let mut known: Vec<Option<[f64; 2]>> = vec![None; pairs.len()];
    for epoch in 0..config.epochs as u64 {
        let order = permutation(pairs.len(), config.seed, Stream::Epoch, epoch, 0);
        for batch in order.chunks(config.pairs_per_batch) {
            gradients::clear(&model.trainable())?;
            let mut step = Step::default();
            for micro in batches::fill(batch, &lengths, config.tokens_per_microbatch) {
                let picked: Vec<&Preference> = micro.iter().map(|&index| &pairs[index]).collect();
                // The reference never changes, so that it is asked once for each pair.
                if micro.iter().any(|&index| known[index].is_none()) {
                    let (pass, places) = forward(reference, &picked, false)?;
                    let sums = sums(&pass.log_prob, &places);
                    micro.iter().zip(sums).for_each(|(&index, sums)| known[index] = Some(sums));
                }
                let of_reference: Vec<[f64; 2]> = micro.iter().filter_map(|&index| known[index]).collect();
                backward(model, &picked, &of_reference, config.beta, batch.len(), &mut step)?;
            }
            let number = summary.steps;
            let not_finite = |what: &str, value: f64| TrainError::NotFinite {
                stage: "preference",
                what: what.to_owned(),
                value,
                step: number,
                batch: format!("of {} pairs", batch.len()),
            };
            if !step.loss.is_finite() {
                return Err(not_finite("the loss", step.loss));
            }
            let rate = config.optimizer.rate(number, planned);
            let norm = gradients::norm(optimizer.trainable())?;
            if !norm.is_finite() {
                let place =
                    broken_weight(model).unwrap_or_else(|| gradients::place_of_break(&model.trainable()));
                return Err(not_finite(&format!("the gradient norm ({place})"), norm));
            }
            optimizer.step(rate)?;
            if number == 0 {
                summary.first_loss = step.loss;
            }
            summary.steps += 1;
            summary.tokens += batch.iter().map(|&index| lengths[index] as u64).sum::<u64>();
            summary.last_loss = step.loss;
            let metrics = [
                ("loss", step.loss),
                ("margin", step.margin),
                ("accuracy", step.accuracy),
                ("learning_rate", rate),
                ("gradient_norm", norm),
            ];
            log(number, &metrics).map_err(TrainError::Callback)?;
        }
    }
    gradients::check_parameters(optimizer.trainable(), "preference", summary.steps)?;
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}

impl Preference {
    /// Tokens of both sequences.
    fn tokens(&self) -> usize {
        2 * self.prompt.len() + self.chosen.len() + self.rejected.len()
    }
}

fn check_pairs(pairs: &[Preference]) -> Result<(), TrainError> {
    let refuse = |problem: String| Err(TrainError::NoData { stage: "preference", problem });
    if pairs.is_empty() {
        return refuse("there are no pairs".to_owned());
    }
    let is_wrong = |pair: &Preference| {
        let fits = pair.chosen.len() == pair.chosen_counts.len()
            && pair.rejected.len() == pair.rejected_counts.len()
            && !pair.prompt.is_empty();
        !fits || !pair.chosen_counts.iter().chain(&pair.rejected_counts).any(|counts| *counts)
    };
    match pairs.iter().position(is_wrong) {
        None => Ok(()),
        Some(place) => refuse(format!(
            "pair {place} has no prompt, marks that do not fit its answers, or no token that counts"
        )),
    }
}

/// Loss, margin and accuracy of a step, means over its pairs.
#[derive(Default)]
struct Step {
    loss: f64,
    margin: f64,
    accuracy: f64,
}

/// Which scored row belongs to which pair and side.
type Place = (usize, usize);

/// Scores the tokens that count, chosen before rejected, pair by pair.
fn forward(model: &Model, pairs: &[&Preference], keep: bool) -> Result<(ScoredPass, Vec<Place>), TrainError> {
    let (mut rows, mut targets, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut sequences: Vec<Vec<u32>> = Vec::new();
    let mut offset = 0;
    for (number, pair) in pairs.iter().enumerate() {
        for (side, (answer, counts)) in
            [(&pair.chosen, &pair.chosen_counts), (&pair.rejected, &pair.rejected_counts)]
                .into_iter()
                .enumerate()
        {
            for (place, id) in answer.iter().enumerate().filter(|(place, _)| counts[*place]) {
                // The row before a token predicts it.
                rows.push((offset + pair.prompt.len() + place - 1) as u32);
                targets.push(*id);
                places.push((number, side));
            }
            let sequence = [pair.prompt.as_slice(), answer.as_slice()].concat();
            offset += sequence.len();
            sequences.push(sequence);
        }
    }
    let packed = Packed::new(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok((model.scored_pass(&packed, &rows, &targets, 1.0, keep.then(Pass::default))?, places))
}

/// Sums of log-probabilities of both sides of each pair.
fn sums(log_prob: &[f32], places: &[Place]) -> Vec<[f64; 2]> {
    let count = places.iter().map(|(pair, _)| pair + 1).max().unwrap_or(0);
    let mut sums = vec![[0.0; 2]; count];
    for (log_prob, (pair, side)) in log_prob.iter().zip(places) {
        sums[*pair][*side] += f64::from(*log_prob);
    }
    sums
}

/// Adds the gradients of a micro-batch's share of the mean loss.
fn backward(
    model: &Model,
    pairs: &[&Preference],
    reference: &[[f64; 2]],
    beta: f64,
    of: usize,
    step: &mut Step,
) -> Result<(), TrainError> {
    let (pass, places) = forward(model, pairs, true)?;
    let policy = sums(&pass.log_prob, &places);
    let share = 1.0 / of as f64;
    let slopes: Vec<f64> = policy
        .iter()
        .zip(reference)
        .map(|(policy, reference)| {
            let sums = PreferenceSums {
                chosen: policy[0],
                rejected: policy[1],
                reference_chosen: reference[0],
                reference_rejected: reference[1],
            };
            let (loss, slope, margin) = preference_loss(&sums, beta);
            step.loss += share * loss;
            step.margin += share * margin;
            step.accuracy += share * f64::from(u8::from(margin > 0.0));
            share * slope
        })
        .collect();
    let gradient: Vec<f32> = places
        .iter()
        .map(|(pair, side)| if *side == 0 { slopes[*pair] as f32 } else { -slopes[*pair] as f32 })
        .collect();
    pass.backward(Gradients { log_prob: &gradient, entropy: None, hidden: None })?;
    Ok(())
}
