//! Training on given texts: next-token training of whole documents, and SFT on completions.
//!
//! Both are the same loop over weighted next-token losses; they differ in the weights. Metrics of every step, under these
//! names:
//!
//! | metric | what it is |
//! |---|---|
//! | `loss` | mean negative log-prob of the batch's targets, weighted, in nats, before the step |
//! | `learning_rate` | the rate of this step |
//! | `gradient_norm` | global L2 norm before clipping |
//! | `tokens` | tokens read since the start, prompts included |
//! | `tokens_per_second` | tokens read in this step over its wall-clock time |
//! | `epoch` | passes over the data, with fraction |

mod sequences;

use std::{ops::Range, time::Instant};

use serde::{Deserialize, Serialize};
use vul2safe_model::{Gradients, Model, Packed, Pass};

use self::sequences::Sequence;
use crate::{
    CallbackError, Checkpoint, TrainError, batches, broken_weight,
    checkpoint::{Identity, Progress, settings, settings_of},
    checkpointing::Checkpointing,
    math::likelihood_loss,
    optimizer::{AdamW, OptimizerConfig, gradients},
    seeds::{Stream, derive, permutation},
};

/// Receives the step (from 0) and its metrics. An error stops the training and is passed on.
pub type Log<'a> = dyn FnMut(u64, &[(&str, f64)]) -> Result<(), CallbackError> + 'a;

/// Settings of [`pretrain`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainConfig {
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Passes over the documents.
    pub epochs: usize,
    /// Stop after this many optimiser steps; the schedule ends there as well.
    pub maximum_steps: Option<usize>,
    /// Tokens of one optimiser step, at most (a longer document is a step of its own).
    pub tokens_per_batch: usize,
    /// Tokens of one forward and backward pass, at most: bounds memory, changes nothing else.
    pub tokens_per_microbatch: usize,
    /// Compute each layer again in the backward pass instead of keeping what the forward pass saw: a third more work for a
    /// fraction of the memory; the numbers are the same to the bit.
    pub gradient_checkpointing: bool,
    /// Longer documents are cut into pieces of this many tokens; the model's positions bound it as well.
    pub maximum_length: usize,
    /// Seed of the order.
    pub seed: u64,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            optimizer: OptimizerConfig::default(),
            epochs: 1,
            maximum_steps: None,
            tokens_per_batch: 4096,
            tokens_per_microbatch: 1024,
            gradient_checkpointing: false,
            maximum_length: 1024,
            seed: 0,
        }
    }
}

/// Settings of [`sft`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SftConfig {
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Passes over the examples.
    pub epochs: usize,
    /// Stop after this many optimiser steps; the schedule ends there as well.
    pub maximum_steps: Option<usize>,
    /// Tokens of one optimiser step, at most, prompts included (a longer example is a step of its own).
    pub tokens_per_batch: usize,
    /// Tokens of one forward and backward pass, at most: bounds memory, changes nothing else.
    pub tokens_per_microbatch: usize,
    /// Compute each layer again in the backward pass instead of keeping what the forward pass saw: a third more work for a
    /// fraction of the memory; the numbers are the same to the bit.
    pub gradient_checkpointing: bool,
    /// Longer examples (prompt and completion) are left out and counted: a completion without its end teaches not to end.
    pub maximum_length: usize,
    /// Seed of the order.
    pub seed: u64,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self {
            optimizer: OptimizerConfig { learning_rate: 3e-4, ..OptimizerConfig::default() },
            epochs: 3,
            maximum_steps: None,
            tokens_per_batch: 4096,
            tokens_per_microbatch: 1024,
            gradient_checkpointing: false,
            maximum_length: 2048,
            seed: 0,
        }
    }
}

/// One request with the answer to learn.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Ids that are read and carry no loss.
    pub prompt: Vec<u32>,
    /// Ids to learn, with the id that ends an answer.
    pub completion: Vec<u32>,
    /// Weight of each completion token (0: not learned; below 0: unlearned, see [`crate::math::likelihood_loss`]); `None`: all 1.
    pub weights: Option<Vec<f32>>,
}

/// What a training did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainSummary {
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens read, prompts included.
    pub tokens: u64,
    /// Documents or examples left out: too short to hold a target, too long, or with no weight.
    pub skipped: usize,
    /// Loss of the first step.
    pub first_loss: f64,
    /// Loss of the last step.
    pub last_loss: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Next-token training over all tokens of whole documents.
///
/// Documents are shuffled anew in each epoch and packed end to end; none sees another. What ends a document must be part of
/// it.
///
/// # Errors
/// [`TrainError::NoData`] if no document holds two tokens; [`TrainError::NotFinite`] with step and documents if a loss or
/// gradient is NaN or infinite; [`TrainError::Callback`] from `log`.
pub fn pretrain(
    model: &Model,
    documents: &[Vec<u32>],
    config: &PretrainConfig,
    log: &mut Log<'_>,
) -> Result<TrainSummary, TrainError> {
    pretrain_from(model, documents, config, None, log)
}

/// As [`pretrain`], with a checkpoint: goes on where the one in its folder ended, if there is one, and writes it.
///
/// A run that goes on gives the same bits as one that was never interrupted, with the same number of threads. What is written
/// is known to be sound: it waits until the next step has found its loss and its gradients finite.
///
/// # Errors
/// Those of [`pretrain`]; [`TrainError::OtherCheckpoint`] for a checkpoint of other settings or data,
/// [`TrainError::Checkpoint`] for one that is cut short. The model is then unchanged.
pub fn pretrain_from(
    model: &Model,
    documents: &[Vec<u32>],
    config: &PretrainConfig,
    checkpoint: Option<&Checkpoint>,
    log: &mut Log<'_>,
) -> Result<TrainSummary, TrainError> {
    let longest = config.maximum_length.min(model.config().max_position_embeddings);
    let sequences = sequences::of_documents(documents, longest);
    let used: std::collections::BTreeSet<usize> = sequences.iter().map(|sequence| sequence.source).collect();
    let skipped = documents.len() - used.len();
    run(model, &sequences, skipped, &Settings::of_pretrain(config), checkpoint, log)
}

/// Learns the completions, given their prompts; prompt tokens carry no loss.
///
/// # Errors
/// As [`pretrain`], and [`TrainError::NoData`] if the weights of an example do not fit its completion.
pub fn sft(
    model: &Model,
    examples: &[Example],
    config: &SftConfig,
    log: &mut Log<'_>,
) -> Result<TrainSummary, TrainError> {
    sft_from(model, examples, config, None, log)
}

/// As [`sft`], with a checkpoint; see [`pretrain_from`].
///
/// # Errors
/// Those of [`sft`] and of [`pretrain_from`].
pub fn sft_from(
    model: &Model,
    examples: &[Example],
    config: &SftConfig,
    checkpoint: Option<&Checkpoint>,
    log: &mut Log<'_>,
) -> Result<TrainSummary, TrainError> {
    let longest = config.maximum_length.min(model.config().max_position_embeddings);
    let sequences = sequences::of_examples(examples, longest)?;
    let skipped = examples.len() - sequences.len();
    run(model, &sequences, skipped, &Settings::of_sft(config), checkpoint, log)
}

impl PretrainConfig {
    /// Optimiser steps for documents of these lengths, without training (for a plan on screen).
    pub fn steps(&self, lengths: &[usize]) -> usize {
        let longest = self.maximum_length.max(2);
        let pieces: Vec<usize> = lengths
            .iter()
            .flat_map(|&length| (0..length).step_by(longest).map(move |start| longest.min(length - start)))
            .filter(|length| *length > 1)
            .collect();
        Settings::of_pretrain(self).plan(&pieces).len()
    }
}

impl SftConfig {
    /// Optimiser steps for examples of these lengths (prompt and completion), without training.
    pub fn steps(&self, lengths: &[usize]) -> usize {
        let kept: Vec<usize> =
            lengths.iter().copied().filter(|length| (2..=self.maximum_length).contains(length)).collect();
        Settings::of_sft(self).plan(&kept).len()
    }
}

/// What both stages share.
struct Settings<'a> {
    stage: &'static str,
    /// The whole configuration as lines, but for what changes no number.
    lines: Vec<String>,
    optimizer: &'a OptimizerConfig,
    epochs: usize,
    maximum_steps: usize,
    tokens_per_batch: usize,
    tokens_per_microbatch: usize,
    gradient_checkpointing: bool,
    seed: u64,
}

impl<'a> Settings<'a> {
    fn of_pretrain(config: &'a PretrainConfig) -> Self {
        Self {
            stage: "pretrain",
            lines: settings(&PretrainConfig { gradient_checkpointing: false, ..config.clone() }),
            optimizer: &config.optimizer,
            epochs: config.epochs,
            maximum_steps: config.maximum_steps.unwrap_or(usize::MAX),
            tokens_per_batch: config.tokens_per_batch,
            tokens_per_microbatch: config.tokens_per_microbatch,
            gradient_checkpointing: config.gradient_checkpointing,
            seed: config.seed,
        }
    }

    fn of_sft(config: &'a SftConfig) -> Self {
        Self {
            stage: "sft",
            lines: settings(&SftConfig { gradient_checkpointing: false, ..config.clone() }),
            optimizer: &config.optimizer,
            epochs: config.epochs,
            maximum_steps: config.maximum_steps.unwrap_or(usize::MAX),
            tokens_per_batch: config.tokens_per_batch,
            tokens_per_microbatch: config.tokens_per_microbatch,
            gradient_checkpointing: config.gradient_checkpointing,
            seed: config.seed,
        }
    }

    /// What a checkpoint must be of, to be gone on with.
    fn identity(&self, model: &Model, sequences: &[Sequence<'_>]) -> Result<Identity, TrainError> {
        let mut lines = self.lines.clone();
        lines.extend(settings_of(model));
        Identity::new(self.stage, lines, sequences::hash(sequences), model)
    }

    /// The sequences of every step, in order, with the epochs' progress in sequences.
    fn plan(&self, lengths: &[usize]) -> Vec<Vec<usize>> {
        let mut steps = Vec::new();
        for epoch in 0..self.epochs as u64 {
            if steps.len() >= self.maximum_steps || lengths.is_empty() {
                break;
            }
            let order = permutation(lengths.len(), self.seed, Stream::Epoch, epoch, 0);
            steps.extend(batches::fill(&order, lengths, self.tokens_per_batch));
        }
        steps.truncate(self.maximum_steps);
        steps
    }
}

fn run(
    model: &Model,
    sequences: &[Sequence<'_>],
    skipped: usize,
    settings: &Settings<'_>,
    checkpoint: Option<&Checkpoint>,
    log: &mut Log<'_>,
) -> Result<TrainSummary, TrainError> {
    settings.optimizer.check()?;
    let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.ids.len()).collect();
    let plan = settings.plan(&lengths);
    if plan.is_empty() {
        let problem = format!(
            "{} usable sequences ({skipped} left out), {} epochs, at most {} steps",
            sequences.len(),
            settings.epochs,
            settings.maximum_steps
        );
        return Err(TrainError::NoData { stage: settings.stage, problem });
    }
    let start = Instant::now();
    let _checkpointing = Checkpointing::set(model, settings.gradient_checkpointing);
    let mut optimizer = AdamW::over(model.trainable(), settings.optimizer.clone());
    let planned = plan.len() as u64;
    let mut progress = Progress::new(settings.identity(model, sequences)?);
    if let Some(found) = checkpoint
        .map(|checkpoint| checkpoint.load(&progress.identity, model, &mut optimizer))
        .transpose()?
        .flatten()
    {
        progress = found;
    }
    let (first, before) = (progress.step, progress.seconds);
    for (step, batch) in (0..).zip(&plan).skip(first as usize) {
        let begun = Instant::now();
        let not_finite = |what: &str, value: f64| TrainError::NotFinite {
            stage: settings.stage,
            what: what.to_owned(),
            value,
            step,
            batch: describe(batch, sequences),
        };
        let loss = loss_and_gradients(model, sequences, &lengths, batch, settings, step)?;
        if !loss.is_finite() {
            let place = broken_weight(model).map_or(String::new(), |weight| format!(" ({weight})"));
            return Err(not_finite(&format!("the loss{place}"), loss));
        }
        let check_norm = |norm: f64| {
            if norm.is_finite() {
                return Ok(norm);
            }
            // A broken weight can leave the loss finite and breaks the gradients of others before its own.
            let place = broken_weight(model).unwrap_or_else(|| gradients::place_of_break(&model.trainable()));
            Err(not_finite(&format!("the gradient norm ({place})"), norm))
        };
        if let Some(checkpoint) =
            checkpoint.filter(|checkpoint| step > first && checkpoint.is_due(step, planned))
        {
            check_norm(gradients::norm(optimizer.trainable())?)?;
            checkpoint.save(&progress, model, &optimizer)?;
        }
        let rate = settings.optimizer.rate(step, planned);
        let norm = check_norm(optimizer.step(rate)?)?;
        let tokens: usize = batch.iter().map(|&index| lengths[index]).sum();
        progress.step += 1;
        progress.sequences += batch.len() as u64;
        progress.tokens += tokens as u64;
        progress.last_loss = loss;
        progress.seconds = before + start.elapsed().as_secs_f64();
        if step == 0 {
            progress.first_loss = loss;
        }
        let metrics = [
            ("loss", loss),
            ("learning_rate", rate),
            ("gradient_norm", norm),
            ("tokens", progress.tokens as f64),
            ("tokens_per_second", tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9)),
            ("epoch", progress.sequences as f64 / sequences.len() as f64),
        ];
        log(step, &metrics).map_err(TrainError::Callback)?;
    }
    if let Some(checkpoint) = checkpoint.filter(|_| first < planned) {
        gradients::check_parameters(optimizer.trainable(), settings.stage, planned)?;
        checkpoint.save(&progress, model, &optimizer)?;
    }
    Ok(TrainSummary {
        steps: progress.step,
        tokens: progress.tokens,
        skipped,
        first_loss: progress.first_loss,
        last_loss: progress.last_loss,
        seconds: before + start.elapsed().as_secs_f64(),
    })
}

/// Weighted mean loss of a batch, over micro-batches; the gradients of it stand at the parameters.
fn loss_and_gradients(
    model: &Model,
    sequences: &[Sequence<'_>],
    lengths: &[usize],
    batch: &[usize],
    settings: &Settings<'_>,
    step: u64,
) -> Result<f64, TrainError> {
    let total: f64 = batch.iter().map(|&index| sequences[index].total_weight()).sum();
    gradients::clear(&model.trainable())?;
    let mut loss = 0.0;
    for (place, micro) in (0..).zip(batches::fill(batch, lengths, settings.tokens_per_microbatch)) {
        let mut targets = Targets::default();
        for &index in &micro {
            targets.push(&sequences[index], total);
        }
        let packed =
            Packed::new(&micro.iter().map(|&index| sequences[index].ids.as_ref()).collect::<Vec<_>>());
        let pass = Pass { dropout: Some(derive(settings.seed, Stream::Dropout, step, place)) };
        if targets.weights.iter().any(|weight| *weight < 0.0) {
            // What is unlearned has a gradient that depends on its log-prob, so that the pass waits for it.
            let pass = model.scored_pass(&packed, &targets.rows, &targets.ids, 1.0, Some(pass))?;
            let (share, gradient) = likelihood_loss(&pass.log_prob, &targets.weights);
            loss += share;
            pass.backward(Gradients { log_prob: &gradient, entropy: None, hidden: None })?;
            continue;
        }
        // The gradient of the loss with respect to each log-prob is minus its weight.
        let gradient: Vec<f32> = targets.weights.iter().map(|weight| -weight).collect();
        let log_prob = model.learn(&packed, &targets.rows, &targets.ids, &gradient, pass)?;
        loss -= crate::math::weighted_sum(&log_prob, &targets.weights);
    }
    Ok(loss)
}

/// The targets of a packed micro-batch.
#[derive(Default)]
struct Targets {
    rows: Vec<u32>,
    ids: Vec<u32>,
    weights: Vec<f32>,
    offset: usize,
}

impl Targets {
    /// Adds the targets of the next sequence of the pack; `total` is the weight of the whole batch.
    fn push(&mut self, sequence: &Sequence<'_>, total: f64) {
        let Range { start, end } = sequence.targets.clone();
        for place in start..end {
            let weight = sequence.weight(place);
            if weight != 0.0 {
                // The row before a token predicts it.
                self.rows.push((self.offset + place - 1) as u32);
                self.ids.push(sequence.ids[place]);
                self.weights.push((f64::from(weight) / total) as f32);
            }
        }
        self.offset += sequence.ids.len();
    }
}

/// Names of the documents or examples of a batch, the first few of them.
fn describe(batch: &[usize], sequences: &[Sequence<'_>]) -> String {
    let names: Vec<String> = batch.iter().take(8).map(|&index| sequences[index].source.to_string()).collect();
    let more = if batch.len() > names.len() { ", …" } else { "" };
    format!("of {} sequences (items {}{more})", batch.len(), names.join(", "))
}

#[cfg(test)]
mod tests;
