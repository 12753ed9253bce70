use proptest::prelude::*;

use super::*;

fn close(left: &[f32], right: &[f32], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    for (place, (a, b)) in left.iter().zip(right).enumerate() {
        assert!((a - b).abs() <= tolerance, "place {place}: {a} is not {b}");
    }
}

#[test]
fn gae_by_hand() {
    // δ = [1 + 0.5·0.9 − 0, 0 + 2·0.9 − 0.5, −1 + 0 − 2] with γ 0.9; γλ = 0.45.
    let result = gae(&[1.0, 0.0, -1.0], &[0.0, 0.5, 2.0], None, 0.9, 0.5);
    close(&result.advantages, &[1.45 + 0.45 * -0.05, 1.3 + 0.45 * -3.0, -3.0], 1e-6);
    close(&result.returns, &[1.4275, 0.45, -1.0], 1e-6);
}

#[test]
fn lambda_one_returns_are_the_rewards_to_go() {
    let result = gae(&[1.0, 2.0, 3.0], &[0.3, -0.2, 0.9], None, 1.0, 1.0);
    close(&result.returns, &[6.0, 5.0, 3.0], 1e-6);
}

#[test]
fn lambda_zero_keeps_a_reward_at_its_token() {
    let result = gae(&[0.0, 1.0, 0.0], &[0.0, 0.0, 0.0], None, 1.0, 0.0);
    close(&result.advantages, &[0.0, 1.0, 0.0], 0.0);
}

#[test]
fn a_masked_place_is_skipped_and_gets_nothing() {
    let mask = [true, false, true];
    let with_noise = gae(&[1.0, 77.0, 2.0], &[0.5, -99.0, 0.25], Some(&mask), 1.0, 0.95);
    let without = gae(&[1.0, 2.0], &[0.5, 0.25], None, 1.0, 0.95);
    assert_eq!([with_noise.advantages[0], with_noise.advantages[2]], without.advantages[..]);
    assert_eq!((with_noise.advantages[1], with_noise.returns[1]), (0.0, 0.0));
}

#[test]
fn whitening_by_hand() {
    let out = masked_whiten(&[1.0, 2.0, 9.0, 3.0], &[true, true, false, true], true);
    close(&out, &[-1.0, 0.0, 0.0, 1.0], 1e-6);
    let kept = masked_whiten(&[1.0, 2.0, 3.0], &[true; 3], false);
    close(&kept, &[1.0, 2.0, 3.0], 1e-6);
    assert_eq!(masked_whiten(&[4.0], &[true], true), [0.0]);
    assert_eq!(masked_whiten(&[4.0], &[false], true), [0.0]);
}

#[test]
fn kl_estimators_by_hand() {
    let (new, reference) = ((0.5f32).ln(), (0.25f32).ln());
    close(&[kl(new, reference, KlEstimator::K1)], &[std::f32::consts::LN_2], 1e-6);
    close(&[kl(reference, new, KlEstimator::Abs)], &[std::f32::consts::LN_2], 1e-6);
    close(&[kl(new, reference, KlEstimator::K2)], &[0.240_226_5], 1e-6);
    close(&[kl(new, reference, KlEstimator::K3)], &[0.5 - 1.0 + std::f32::consts::LN_2], 1e-6);
    assert_eq!(kl(-30.0, 0.0, KlEstimator::K3), 10.0);
    assert_eq!(kl_gradient(-30.0, 0.0, KlEstimator::K3), 0.0);
    assert_eq!(kl_gradient(-1.0, -1.0, KlEstimator::Abs), 0.0);
}

#[test]
fn adaptive_coefficient_rises_above_the_target_and_falls_below_it() {
    let controller = AdaptiveKl { target: 1.0, horizon: 100.0 };
    assert!((controller.update(0.1, 5.0, 50) - 0.11).abs() < 1e-12);
    assert!((controller.update(0.1, 0.9, 50) - 0.095).abs() < 1e-12);
}

#[test]
fn aggregation_by_hand() {
    let losses = [1.0, 2.0, 3.0, 10.0];
    let totals = BatchTotals::of([3, 1, 0]);
    assert_eq!(totals, BatchTotals { tokens: 4, sequences: 2 });
    let sum = |aggregation| weighted_sum(&losses, &token_weights(&[3, 1, 0], aggregation, totals));
    assert!((sum(Aggregation::TokenMean) - 4.0).abs() < 1e-6);
    assert!((sum(Aggregation::TokenSum) - 16.0).abs() < 1e-6);
    assert!((sum(Aggregation::SequenceMeanTokenSum) - 8.0).abs() < 1e-6);
    assert!((sum(Aggregation::SequenceMeanTokenMean) - 6.0).abs() < 1e-6);
}

const CLIP: PolicyClip = PolicyClip { low: 0.2, high: 0.3, dual: 3.0 };

fn policy(log_ratio: f32, advantage: f32) -> PolicyLoss {
    policy_loss(
        &PolicyTokens {
            log_prob: &[log_ratio],
            old_log_prob: &[0.0],
            advantages: &[advantage],
            weights: &[1.0],
        },
        CLIP,
    )
}

#[test]
fn policy_clip_by_hand() {
    // Good token, ratio above 1 + ε_high: loss held at −1.3, no more push.
    let above = policy(1.5f32.ln(), 1.0);
    assert!((above.loss + 1.3).abs() < 1e-6 && above.clipped[0] && above.gradient[0] == 0.0);
    // Good token, ratio 1.25: clipped with ε 0.2, not with ε_high 0.3.
    let inside = policy(1.25f32.ln(), 1.0);
    assert!((inside.loss + 1.25).abs() < 1e-6 && !inside.clipped[0]);
    close(&inside.gradient, &[-1.25], 1e-6);
    // Bad token, ratio below 1 − ε_low.
    let below = policy(0.5f32.ln(), -1.0);
    assert!((below.loss - 0.8).abs() < 1e-6 && below.clipped[0] && below.gradient[0] == 0.0);
    // Bad token that became five times likelier: dual clip holds the loss at 3, without gradient.
    let dual = policy(5f32.ln(), -1.0);
    assert!((dual.loss - 3.0).abs() < 1e-6 && dual.dual_clipped[0] && dual.gradient[0] == 0.0);
    // The ratio of equal log-probs is exactly 1.
    assert_eq!(policy(0.0, 1.0).ratios, [1.0]);
}

#[test]
fn value_clip_by_hand() {
    let tokens = ValueTokens {
        values: &[2.0, 0.1],
        old_values: &[0.0, 0.0],
        returns: &[3.0, 1.0],
        weights: &[0.5, 0.5],
    };
    let result = value_loss(&tokens, 0.5);
    // First: held at 0.5, error 6.25 > 1; second: inside the band, error 0.81.
    assert!((result.loss - 0.5 * (0.5 * 6.25 + 0.5 * 0.81)).abs() < 1e-6);
    assert_eq!(result.clipped, [true, false]);
    close(&result.gradient, &[0.0, -0.45], 1e-6);
    assert_eq!(value_loss(&tokens, f32::INFINITY).clipped, [false, false]);
}

#[test]
fn explained_variance_by_hand() {
    assert_eq!(explained_variance(&[1.0, 2.0], &[1.0, 2.0]), Some(1.0));
    assert_eq!(explained_variance(&[1.5, 1.5], &[1.0, 2.0]), Some(0.0));
    assert_eq!(explained_variance(&[1.0, 2.0], &[1.0, 1.0]), None);
}

proptest! {
    /// The analytic gradients are those of the losses.
    #[test]
    fn gradients_match_central_differences(
        log_prob in -2.0f32..0.0, old in -2.0f32..0.0, advantage in -2.0f32..2.0, weight in 0.1f32..1.0,
    ) {
        let at = |log_prob: f32| policy_loss(
            &PolicyTokens { log_prob: &[log_prob], old_log_prob: &[old], advantages: &[advantage], weights: &[weight] },
            CLIP,
        );
        let ratio = (log_prob - old).exp();
        // Away from the kinks, where both sides agree.
        prop_assume!([0.8, 1.3, 3.0].iter().all(|kink| (ratio - kink).abs() > 0.02));
        let numeric = (at(log_prob + 1e-3).loss - at(log_prob - 1e-3).loss) / 2e-3;
        prop_assert!((numeric - f64::from(at(log_prob).gradient[0])).abs() < 5e-3 * (1.0 + numeric.abs()));

        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            let numeric = (kl(log_prob + 1e-2, old, estimator) - kl(log_prob - 1e-2, old, estimator)) / 2e-2;
            prop_assert!((numeric - kl_gradient(log_prob, old, estimator)).abs() < 1e-2);
        }
    }

    /// What stands at a masked place changes no loss and no gradient elsewhere.
    #[test]
    fn masked_places_have_no_influence(noise in -50.0f32..50.0, log_prob in -2.0f32..0.0) {
        let run = |noise: f32| {
            let tokens = PolicyTokens {
                log_prob: &[log_prob, noise], old_log_prob: &[-1.0, -noise], advantages: &[0.7, noise], weights: &[1.0, 0.0],
            };
            let values = ValueTokens {
                values: &[log_prob, noise], old_values: &[0.0, -noise], returns: &[1.0, noise * 2.0], weights: &[1.0, 0.0],
            };
            (policy_loss(&tokens, CLIP), value_loss(&values, 0.2), masked_whiten(&[1.0, noise, log_prob], &[true, false, true], true))
        };
        prop_assert_eq!(run(noise), run(f32::NAN));
    }
}
