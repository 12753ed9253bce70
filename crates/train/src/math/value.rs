//! The clipped value loss and its gradient.

use super::aggregate::weighted_sum;

/// What the value loss needs of each token; all slices have the same length.
#[derive(Debug, Clone, Copy)]
pub struct ValueTokens<'a> {
    /// Values of the head that is trained.
    pub values: &'a [f32],
    /// Values at sampling time.
    pub old_values: &'a [f32],
    /// Targets.
    pub returns: &'a [f32],
    /// Weights from [`super::token_weights`]; 0 marks a masked place.
    pub weights: &'a [f32],
}

/// The loss, its gradient and the clipped places.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueLoss {
    /// `½ Σ w_t max((V−R)², (V_clip−R)²)`.
    pub loss: f64,
    /// `∂ loss / ∂ V_t`.
    pub gradient: Vec<f32>,
    /// Tokens at which the clipped value had the larger error.
    pub clipped: Vec<bool>,
}

/// Squared error with the new value held within `clip` of the old one (infinity: no clip).
///
/// Source: veRL 0.9.1 `core_algos.compute_value_loss`.
pub fn value_loss(tokens: &ValueTokens<'_>, clip: f32) -> ValueLoss {
    let count = tokens.values.len();
    let mut losses = vec![0.0f32; count];
    let mut gradient = vec![0.0f32; count];
    let mut clipped = vec![false; count];
    for place in 0..count {
        let weight = tokens.weights[place];
        if weight == 0.0 {
            continue;
        }
        let (value, old) = (f64::from(tokens.values[place]), f64::from(tokens.old_values[place]));
        let target = f64::from(tokens.returns[place]);
        let bound = f64::from(clip);
        let held = value.clamp(old - bound, old + bound);
        let (plain_error, held_error) = ((value - target).powi(2), (held - target).powi(2));
        // Where the clip wins the value lies outside of its band, and the held value is a constant.
        clipped[place] = held_error > plain_error;
        losses[place] = (0.5 * plain_error.max(held_error)) as f32;
        if !clipped[place] {
            gradient[place] = ((value - target) * f64::from(weight)) as f32;
        }
    }
    ValueLoss { loss: weighted_sum(&losses, tokens.weights), gradient, clipped }
}
