//! AdamW in place on the parameters' own storage, its learning-rate schedule and its state.

mod adamw;
pub mod gradients;
mod muon;

use serde::{Deserialize, Serialize};

pub use adamw::AdamW;

use crate::TrainError;

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Half a cosine from the full rate to `final_share` of it.
    #[default]
    Cosine,
    /// A straight line from the full rate to `final_share` of it.
    Linear,
}

/// How a gradient becomes an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// AdamW for every parameter.
    #[default]
    Adamw,
    /// Muon (Jordan et al. 2024) for the matrices inside layers, AdamW for the rest (embeddings, head, norms, biases), both at
    /// the same rate. For models made from nothing, on the processor.
    Muon,
}

/// Settings of AdamW (Loshchilov & Hutter 2019) as `torch.optim.AdamW` computes it, and of Muon beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// How a gradient becomes an update.
    pub method: Method,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps over which the rate rises in a straight line; step `s` of them has the share `(s + 1) / warmup_steps`.
    pub warmup_steps: usize,
    /// What follows the warm-up.
    pub schedule: Schedule,
    /// Share of `learning_rate` at the last step (cosine, linear).
    pub final_share: f64,
    /// Decoupled decay of matrices, a step: `p ← p − rate · weight_decay · p`. Vectors (norms, biases) are never decayed.
    pub weight_decay: f64,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// The gradient's global L2 norm is scaled down to this; `inf` turns clipping off.
    pub clip_norm: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            method: Method::Adamw,
            learning_rate: 1e-3,
            warmup_steps: 10,
            schedule: Schedule::Cosine,
            final_share: 0.1,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            clip_norm: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// The learning rate of step `step` (from 0) of `steps`: the first after the warm-up has all of it, the last
    /// `final_share`.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        let warmup = self.warmup_steps as u64;
        if step < warmup {
            return self.learning_rate * (step + 1) as f64 / warmup as f64;
        }
        let length = steps.saturating_sub(warmup + 1).max(1);
        let progress = ((step - warmup) as f64 / length as f64).min(1.0);
        let share = match self.schedule {
            Schedule::Constant => return self.learning_rate,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Linear => 1.0 - progress,
        };
        self.learning_rate * (self.final_share + (1.0 - self.final_share) * share)
    }

    /// Refuses values with which no step makes sense.
    ///
    /// # Errors
    /// [`TrainError::Config`] names the field.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |field, problem: String| Err(TrainError::Config { field, problem });
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if !(self.learning_rate.is_finite() && self.learning_rate >= 0.0) {
            return refuse(
                "optimizer.learning_rate",
                format!("is {}, but must be 0 or more", self.learning_rate),
            );
        }
        if !share(self.final_share) {
            return refuse("optimizer.final_share", format!("is {}, but must lie in 0..1", self.final_share));
        }
        if !(share(self.beta1) && self.beta1 < 1.0) {
            return refuse("optimizer.beta1", format!("is {}, but must lie in 0..1", self.beta1));
        }
        if !(share(self.beta2) && self.beta2 < 1.0) {
            return refuse("optimizer.beta2", format!("is {}, but must lie in 0..1", self.beta2));
        }
        if self.clip_norm.is_nan() || self.clip_norm <= 0.0 {
            return refuse(
                "optimizer.clip_norm",
                format!("is {}, but must be above 0 (inf: off)", self.clip_norm),
            );
        }
        if !(self.epsilon > 0.0 && self.weight_decay >= 0.0) {
            return refuse("optimizer.epsilon", "must be above 0 and weight_decay 0 or more".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
