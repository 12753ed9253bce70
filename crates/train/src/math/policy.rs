//! The clipped policy loss and its gradient.

use super::aggregate::weighted_sum;

/// Bounds of the probability ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyClip {
    /// `ε_low`: the ratio counts as at least `1 − ε_low`.
    pub low: f32,
    /// `ε_high`: the ratio counts as at most `1 + ε_high`.
    pub high: f32,
    /// Dual clip `c > 1` (Ye et al. 2020, equation 5): with a negative advantage the loss is at most `c |Â|`; infinity: off.
    pub dual: f32,
}

/// What the policy loss needs of each token; all slices have the same length.
#[derive(Debug, Clone, Copy)]
pub struct PolicyTokens<'a> {
    /// Log-probs under the policy that is trained.
    pub log_prob: &'a [f32],
    /// Log-probs under the policy that sampled.
    pub old_log_prob: &'a [f32],
    /// Advantages.
    pub advantages: &'a [f32],
    /// Weights from [`super::token_weights`]; 0 marks a masked place.
    pub weights: &'a [f32],
}

/// The loss, its gradient and what it saw on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyLoss {
    /// `Σ w_t ℓ_t`.
    pub loss: f64,
    /// `∂ loss / ∂ log_prob_t`.
    pub gradient: Vec<f32>,
    /// `π(y_t) / π_old(y_t)`; 1 at masked places.
    pub ratios: Vec<f32>,
    /// Tokens at which the ratio's clip was the larger loss (veRL's `pg_clipfrac` counts these).
    pub clipped: Vec<bool>,
    /// Tokens with a negative advantage at which the dual clip cut the loss.
    pub dual_clipped: Vec<bool>,
    /// Size of the gradient that a clip took away; 0 where none did.
    pub lost: Vec<f32>,
}

/// PPO's clipped surrogate with separate bounds and dual clip.
///
/// With ratio `ρ = exp(log π − log π_old)` (the exponent clamped to ±20) the loss of a token is
/// `max(−Â ρ, −Â clip(ρ, 1−ε_low, 1+ε_high))`, and for `Â < 0` at most `−c Â`. Source: veRL 0.9.1
/// `core_algos.compute_policy_loss_vanilla`.
pub fn policy_loss(tokens: &PolicyTokens<'_>, clip: PolicyClip) -> PolicyLoss {
    policy_loss_by(tokens, |_| clip)
}

/// As [`policy_loss`], with bounds of its own for each place: the remedy against clipping gives tokens that carry a reward
/// wider ones.
pub fn policy_loss_by(tokens: &PolicyTokens<'_>, clip_of: impl Fn(usize) -> PolicyClip) -> PolicyLoss {
    let count = tokens.log_prob.len();
    let mut losses = vec![0.0f32; count];
    let mut result = PolicyLoss {
        loss: 0.0,
        gradient: vec![0.0; count],
        ratios: vec![1.0; count],
        clipped: vec![false; count],
        dual_clipped: vec![false; count],
        lost: vec![0.0; count],
    };
    for (place, weight) in tokens.weights.iter().copied().enumerate() {
        if weight == 0.0 {
            continue;
        }
        let clip = clip_of(place);
        let (low, high, dual) = (1.0 - f64::from(clip.low), 1.0 + f64::from(clip.high), f64::from(clip.dual));
        let advantage = f64::from(tokens.advantages[place]);
        let log_ratio = f64::from(tokens.log_prob[place]) - f64::from(tokens.old_log_prob[place]);
        let ratio = log_ratio.clamp(-20.0, 20.0).exp();
        let plain = -advantage * ratio;
        let bounded = -advantage * ratio.clamp(low, high);
        let mut loss = plain.max(bounded);
        // d(−Âρ)/d log π = −Âρ; a clipped ratio is a constant.
        let mut gradient = if bounded > plain || log_ratio.abs() > 20.0 { 0.0 } else { plain };
        result.clipped[place] = bounded > plain;
        if advantage < 0.0 && dual.is_finite() {
            let ceiling = -advantage * dual;
            if loss > ceiling {
                result.dual_clipped[place] = true;
                loss = ceiling;
                gradient = 0.0;
            }
        }
        if gradient == 0.0 {
            result.lost[place] = (plain * f64::from(weight)).abs() as f32;
        }
        losses[place] = loss as f32;
        result.ratios[place] = ratio as f32;
        result.gradient[place] = (gradient * f64::from(weight)) as f32;
    }
    result.loss = weighted_sum(&losses, tokens.weights);
    result
}
