//! Choosing the next id from a row of logits.

use std::collections::HashSet;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::kernels::rows::{Exponentials, LogSumExp, run};

/// How one request is sampled.
///
/// The logits are changed in the order of transformers: repetition penalty, temperature, top-k, top-p, min-p. The
/// log-probabilities in the answer are those of the logits as the model gave them, before any of this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// At most this many ids are generated.
    pub maximum_new_tokens: usize,
    /// Divides the logits; 0 takes the most probable id each time.
    pub temperature: f32,
    /// Only the most probable ids that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Only so many of the most probable ids; 0 keeps all.
    pub top_k: usize,
    /// Only ids at least this many times as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Divides the positive logits, and multiplies the negative ones, of every id that the prompt or the answer so far
    /// holds; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Ids that end the answer.
    pub stop_ids: Vec<u32>,
    /// Texts that end the answer when its bytes come to hold one of them, wherever the borders of the ids lie. The ids up to
    /// the one that completes it stay in the answer; [`TokenBytes::text_before_stop`](crate::TokenBytes::text_before_stop)
    /// cuts it off. Needs a table of the ids' bytes.
    pub stop_strings: Vec<String>,
    /// Seed of this request's own random numbers.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// 256 ids, temperature 1, nothing cut off or penalised, nothing that stops, seed 0.
    fn default() -> Self {
        SamplingOptions {
            maximum_new_tokens: 256,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop_ids: Vec::new(),
            stop_strings: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A negative or infinite temperature, a `top_p` outside (0, 1], a `min_p` outside [0, 1], a repetition penalty that is no
    /// positive number, an empty stop string.
    pub fn check(&self) -> Result<(), ModelError> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(ModelError::input(format!(
                "temperature {} is neither 0 nor a positive number",
                self.temperature
            )));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(ModelError::input(format!("top_p {} lies outside (0, 1]", self.top_p)));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(ModelError::input(format!("min_p {} lies outside [0, 1]", self.min_p)));
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return Err(ModelError::input(format!(
                "repetition_penalty {} is not a positive number",
                self.repetition_penalty
            )));
        }
        if self.stop_strings.iter().any(String::is_empty) {
            return Err(ModelError::input("an empty stop string would end every answer at once"));
        }
        Ok(())
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop id came.
    Stop,
    /// The answer's bytes hold a stop string.
    StopString,
    /// The answer or the model's positions reached their limit.
    Length,
    /// The caller asked for no more.
    Cancelled,
}

/// One request's random numbers and cut-offs.
pub(super) struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
    /// The ids that the repetition penalty falls on, each once, in no order; empty where there is no penalty.
    seen: Vec<u32>,
    is_seen: HashSet<u32>,
}

impl Sampler {
    pub(super) fn new(options: &SamplingOptions, prompt: &[u32]) -> Sampler {
        let mut sampler = Sampler {
            random: ChaCha8Rng::seed_from_u64(options.seed),
            options: options.clone(),
            seen: Vec::new(),
            is_seen: HashSet::new(),
        };
        prompt.iter().for_each(|&id| sampler.see(id));
        sampler
    }

    fn see(&mut self, id: u32) {
        if self.options.repetition_penalty != 1.0 && self.is_seen.insert(id) {
            self.seen.push(id);
        }
    }

    /// Chooses an id; gives it with its log-probability under the unmodified distribution. Overwrites `logits`. Nothing
    /// comes back where a logit is not finite.
    pub(super) fn choose(&mut self, logits: &mut [f32]) -> Option<(u32, f32)> {
        if logits.iter().fold(false, |broken, logit| broken | !logit.is_finite()) {
            return None;
        }
        let (log_sum_exp, _) = run(LogSumExp { row: logits });
        let unmodified: Vec<f32> = self.seen.iter().map(|&id| logits[id as usize]).collect();
        let penalty = self.options.repetition_penalty;
        for &id in &self.seen {
            let logit = &mut logits[id as usize];
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
        let best = most_probable(logits);
        let chosen = if self.options.temperature == 0.0 {
            best
        } else {
            let draw: f64 = self.random.random();
            let inverse = 1.0 / self.options.temperature;
            let peak = logits[best];
            let SamplingOptions { top_k, top_p, min_p, .. } = self.options;
            if top_k > 0 && top_k < logits.len() || top_p < 1.0 || min_p > 0.0 {
                let (ids, total) = self.candidates(logits, inverse, peak);
                let weights = ids.iter().map(|&id| (id, weight(logits[id], inverse, peak) as f32));
                walk(weights, draw * total).unwrap_or(best)
            } else {
                let mut weights = logits.to_vec();
                let total = run(Exponentials { line: &mut weights, scale: inverse, shift: peak * inverse });
                walk(weights.iter().copied().enumerate(), draw * f64::from(total)).unwrap_or(best)
            }
        };
        let place =
            if self.seen.is_empty() { None } else { self.seen.iter().position(|&id| id as usize == chosen) };
        let logit = place.map_or(logits[chosen], |place| unmodified[place]);
        self.see(chosen as u32);
        Some((chosen as u32, logit - log_sum_exp))
    }

    /// The ids that top-k, then top-p, then min-p leave, and the sum of their weights.
    fn candidates(&self, logits: &[f32], inverse: f32, peak: f32) -> (Vec<usize>, f64) {
        let weight = |id: usize| weight(logits[id], inverse, peak);
        let by_logit = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        if self.options.top_k > 0 && self.options.top_k < ids.len() {
            ids.select_nth_unstable_by(self.options.top_k - 1, by_logit);
            ids.truncate(self.options.top_k);
        }
        if self.options.top_p < 1.0 {
            let total: f64 = ids.iter().map(|&id| weight(id)).sum();
            let wanted = f64::from(self.options.top_p) * total;
            // Ids below this weight hold less than 1 − top_p together, so that none of them can be in the nucleus.
            let floor = (total - wanted) / ids.len() as f64;
            ids.retain(|&id| weight(id) >= floor || logits[id] == peak);
            ids.sort_unstable_by(by_logit);
            let mut sum = 0.0;
            let mut kept = 0;
            while kept < ids.len() && sum < wanted {
                sum += weight(ids[kept]);
                kept += 1;
            }
            ids.truncate(kept.max(1));
        } else {
            ids.sort_unstable();
        }
        if self.options.min_p > 0.0 {
            // The most probable id has weight 1.
            let least = f64::from(self.options.min_p);
            ids.retain(|&id| weight(id) >= least || logits[id] == peak);
        }
        let total = ids.iter().map(|&id| weight(id)).sum();
        (ids, total)
    }
}

/// Weight of a logit among tempered ones, that of the largest being 1.
fn weight(logit: f32, inverse: f32, peak: f32) -> f64 {
    f64::from(((logit - peak) * inverse).exp())
}

/// The first id of the largest logit.
fn most_probable(logits: &[f32]) -> usize {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best
}

/// The id at which the running sum of weights passes `until`, or the last id of positive weight.
fn walk(weights: impl Iterator<Item = (usize, f32)>, until: f64) -> Option<usize> {
    let mut sum = 0.0;
    let mut last = None;
    for (id, weight) in weights {
        if weight > 0.0 {
            last = Some(id);
            sum += f64::from(weight);
            if sum > until {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests;
