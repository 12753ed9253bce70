//! Learning a token, or unlearning it.

/// Probabilities above this count as this: unlearning a certain token would otherwise have an infinite loss.
const LARGEST: f64 = 1.0 - 1e-6;

/// Loss `Σ ℓ_t` and its gradient with respect to each log-probability, for tokens with weights of either sign.
///
/// A weight `w > 0` learns its token, `ℓ = −w log p`; a weight `w < 0` unlearns it, `ℓ = −|w| log(1 − p)` (unlikelihood training,
/// Welleck et al. 2020, equation 4; SafeCoder uses it on the tokens of vulnerable code).
pub fn likelihood_loss(log_prob: &[f32], weights: &[f32]) -> (f64, Vec<f32>) {
    let mut loss = 0.0;
    let gradient = log_prob
        .iter()
        .zip(weights)
        .map(|(log_prob, weight)| {
            let (log_prob, weight) = (f64::from(*log_prob), f64::from(*weight));
            if weight >= 0.0 {
                // A weight of 0 leaves out even what is not finite.
                loss -= if weight == 0.0 { 0.0 } else { weight * log_prob };
                return -weight as f32;
            }
            let probability = log_prob.exp().min(LARGEST);
            loss += weight * (-probability).ln_1p();
            (-weight * probability / (1.0 - probability)) as f32
        })
        .collect();
    (loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_by_hand() {
        let half = 0.5f32.ln();
        let (loss, gradient) = likelihood_loss(&[half, half, f32::NAN, -0.1], &[2.0, -1.0, 0.0, -0.5]);
        let last = 0.5 * -(1.0 - (-0.1f64).exp()).ln();
        assert!((loss - (2.0 * 2f64.ln() + 2f64.ln() + last)).abs() < 1e-6, "{loss}");
        let p = (-0.1f32).exp();
        for (ours, expected) in gradient.iter().zip([-2.0, 1.0, 0.0, 0.5 * p / (1.0 - p)]) {
            assert!((ours - expected).abs() < 1e-5, "{ours} is not {expected}");
        }
        // Certain tokens stay finite.
        let (loss, gradient) = likelihood_loss(&[0.0], &[-1.0]);
        assert!(loss.is_finite() && gradient[0].is_finite());
    }
}
