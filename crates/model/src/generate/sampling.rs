//! Choosing the next id from a row of logits.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::kernels::rows::{Exponentials, LogSumExp, run};

/// How one request is sampled.
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
    /// Ids that end the answer.
    pub stop_ids: Vec<u32>,
    /// Seed of this request's own random numbers.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// 256 ids, temperature 1, nothing cut off, no stop ids, seed 0.
    fn default() -> Self {
        SamplingOptions {
            maximum_new_tokens: 256,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            stop_ids: Vec::new(),
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A negative or infinite temperature, a `top_p` outside (0, 1].
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
        Ok(())
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// A stop id came.
    Stop,
    /// The answer or the model's positions reached their limit.
    Length,
}

/// One request's random numbers and cut-offs.
pub(crate) struct Sampler {
    options: SamplingOptions,
    random: ChaCha8Rng,
}

impl Sampler {
    pub(crate) fn new(options: &SamplingOptions) -> Sampler {
        Sampler { random: ChaCha8Rng::seed_from_u64(options.seed), options: options.clone() }
    }

    /// Chooses an id; gives it with its log-probability under the unmodified distribution. Overwrites `logits`.
    pub(crate) fn choose(&mut self, logits: &mut [f32]) -> (u32, f32) {
        let (log_sum_exp, _) = run(LogSumExp { row: logits });
        let best = most_probable(logits);
        if self.options.temperature == 0.0 {
            return (best as u32, logits[best] - log_sum_exp);
        }
        let draw: f64 = self.random.random();
        let inverse = 1.0 / self.options.temperature;
        let peak = logits[best];
        let limited = self.options.top_k > 0 && self.options.top_k < logits.len() || self.options.top_p < 1.0;
        let chosen = if limited {
            self.choose_among(logits, inverse, peak, draw)
        } else {
            let mut weights = logits.to_vec();
            let total = run(Exponentials { line: &mut weights, scale: inverse, shift: peak * inverse });
            walk(weights.iter().copied().enumerate(), draw * f64::from(total)).unwrap_or(best)
        };
        (chosen as u32, logits[chosen] - log_sum_exp)
    }

    /// Draws among the ids that top-k and then top-p leave.
    fn choose_among(&self, logits: &[f32], inverse: f32, peak: f32, draw: f64) -> usize {
        let weight = |id: usize| f64::from(((logits[id] - peak) * inverse).exp());
        let by_logit = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        if self.options.top_k > 0 && self.options.top_k < ids.len() {
            ids.select_nth_unstable_by(self.options.top_k - 1, by_logit);
            ids.truncate(self.options.top_k);
        }
        let mut total: f64 = ids.iter().map(|&id| weight(id)).sum();
        if self.options.top_p < 1.0 {
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
            total = ids.iter().map(|&id| weight(id)).sum();
        } else {
            ids.sort_unstable();
        }
        walk(ids.iter().map(|&id| (id, weight(id) as f32)), draw * total).unwrap_or(ids[0])
    }
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
