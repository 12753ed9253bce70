//! Estimators of the Kullback–Leibler divergence from samples, and the adaptive coefficient.

use serde::{Deserialize, Serialize};

/// An estimator of `KL(π ‖ π_ref)` from the log-probs of sampled tokens (J. Schulman, "Approximating KL divergence").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `log π − log π_ref`: unbiased, can be negative.
    #[default]
    K1,
    /// `|log π − log π_ref|`.
    Abs,
    /// `½ (log π − log π_ref)²`: biased, low variance, its gradient is that of the divergence.
    K2,
    /// `π_ref/π − 1 − log(π_ref/π)`: unbiased and never negative. Clamped as in veRL: the log-ratio to ±20, the result to ±10.
    K3,
}

const LOG_RATIO_BOUND: f64 = 20.0;
const K3_BOUND: f64 = 10.0;

/// The estimate at one token, in nats.
pub fn kl(log_prob: f32, reference: f32, estimator: KlEstimator) -> f32 {
    let difference = f64::from(log_prob) - f64::from(reference);
    let estimate = match estimator {
        KlEstimator::K1 => difference,
        KlEstimator::Abs => difference.abs(),
        KlEstimator::K2 => 0.5 * difference * difference,
        KlEstimator::K3 => {
            let log_ratio = (-difference).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND);
            (log_ratio.exp() - log_ratio - 1.0).clamp(-K3_BOUND, K3_BOUND)
        }
    };
    estimate as f32
}

/// Derivative of [`kl`] with respect to `log_prob`; 0 where the estimator is clamped.
pub fn kl_gradient(log_prob: f32, reference: f32, estimator: KlEstimator) -> f32 {
    let difference = f64::from(log_prob) - f64::from(reference);
    let gradient = match estimator {
        KlEstimator::K1 => 1.0,
        // `f64::signum(0.0)` is 1; the subgradient wanted at 0 is 0.
        KlEstimator::Abs if difference == 0.0 => 0.0,
        KlEstimator::Abs => difference.signum(),
        KlEstimator::K2 => difference,
        KlEstimator::K3 => {
            let log_ratio = -difference;
            let inside = log_ratio.abs() <= LOG_RATIO_BOUND && log_ratio.exp() - log_ratio - 1.0 <= K3_BOUND;
            if inside { 1.0 - log_ratio.exp() } else { 0.0 }
        }
    };
    gradient as f32
}

/// The proportional controller of Ziegler et al. 2019 ("Fine-tuning language models from human preferences", section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveKl {
    /// Divergence to hold, in nats, in the unit in which it is measured (PPO measures it per answer).
    pub target: f64,
    /// Answers after which a steady error of 100 % has about changed the coefficient by a factor e.
    pub horizon: f64,
}

impl AdaptiveKl {
    /// The next coefficient after a batch of `answers` with mean divergence `measured`.
    ///
    /// The relative error is clipped to ±0.2, so that one odd batch cannot throw the coefficient.
    pub fn update(&self, coefficient: f64, measured: f64, answers: usize) -> f64 {
        let error = (measured / self.target - 1.0).clamp(-0.2, 0.2);
        coefficient * (1.0 + error * answers as f64 / self.horizon)
    }
}
