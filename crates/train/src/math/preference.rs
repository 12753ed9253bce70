//! Direct preference optimisation.

/// What the loss of one pair needs: sums of log-probabilities over the tokens that count, of each side under each model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreferenceSums {
    /// Of the chosen side under the policy.
    pub chosen: f64,
    /// Of the rejected side under the policy.
    pub rejected: f64,
    /// Of the chosen side under the reference.
    pub reference_chosen: f64,
    /// Of the rejected side under the reference.
    pub reference_rejected: f64,
}

/// Loss of a pair, its slope with respect to the chosen side's sum (that of the rejected side's is its negative), and the
/// margin `β · ((chosen − reference) − (rejected − reference))`.
///
/// `ℓ = −log σ(margin)` (Rafailov et al. 2023, equation 7). The sums may run over all tokens (DPO) or over those that differ
/// between the sides alone (localised preference optimisation).
pub fn preference_loss(sums: &PreferenceSums, beta: f64) -> (f64, f64, f64) {
    let margin = beta * ((sums.chosen - sums.reference_chosen) - (sums.rejected - sums.reference_rejected));
    // −log σ(x) = log(1 + e^−x), without overflow on either side.
    let loss = if margin > 0.0 { (-margin).exp().ln_1p() } else { margin.exp().ln_1p() - margin };
    let slope = -beta / (1.0 + margin.exp());
    (loss, slope, margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_slope_by_hand_and_by_differences() {
        let at = |chosen: f64| {
            let sums =
                PreferenceSums { chosen, rejected: -4.0, reference_chosen: -3.0, reference_rejected: -5.0 };
            preference_loss(&sums, 0.5)
        };
        // Margin 0.5 · ((−2 + 3) − (−4 + 5)) = 0.
        let (loss, slope, margin) = at(-2.0);
        assert!((loss - 2f64.ln()).abs() < 1e-12 && margin == 0.0 && (slope + 0.25).abs() < 1e-12);
        for chosen in [-30.0, -3.0, 0.0, 40.0] {
            let step = 1e-5;
            let difference = (at(chosen + step).0 - at(chosen - step).0) / (2.0 * step);
            assert!((difference - at(chosen).1).abs() < 1e-6, "{chosen}");
        }
        assert!(at(-1e6).0.is_finite() && at(1e6).0 == 0.0);
    }
}
