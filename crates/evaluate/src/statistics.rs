//! Intervals and tests for proportions. All at 95 %, two-sided.

/// 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// An interval of a proportion or of a difference of proportions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Wilson's score interval for `count` of `of` (Wilson 1927); 0 to 1 when nothing was observed.
pub fn wilson(count: usize, of: usize) -> Interval {
    if of == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let interval = wilson_of_share(count as f64 / of as f64, of);
    // At the ends the formula gives 0 and 1 but for rounding.
    let low = if count == 0 { 0.0 } else { interval.low };
    let high = if count == of { 1.0 } else { interval.high };
    Interval { low, high }
}

/// The same for a share of `of` observations that need not be 0 or 1 each.
pub(crate) fn wilson_of_share(share: f64, of: usize) -> Interval {
    let n = of as f64;
    let denominator = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / denominator;
    let half = Z / denominator * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

/// Discordant pairs of two models on the same tasks, and the chance of a split at least that uneven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct McNemar {
    /// Tasks where only the first has the property.
    pub only_first: usize,
    /// Tasks where only the second has it.
    pub only_second: usize,
    /// Two-sided mid-p value (Fagerland, Lydersen and Laake 2013).
    pub p_value: f64,
}

/// McNemar's exact test with the mid-p correction.
pub fn mcnemar(pairs: &[(bool, bool)]) -> McNemar {
    let only_first = pairs.iter().filter(|(first, second)| *first && !*second).count();
    let only_second = pairs.iter().filter(|(first, second)| !*first && *second).count();
    let discordant = only_first + only_second;
    if discordant == 0 {
        return McNemar { only_first, only_second, p_value: 1.0 };
    }
    let fewer = only_first.min(only_second);
    // Binomial(discordant, 1/2) in logarithms: 2^-n underflows for large n.
    let mut log_term = -(discordant as f64) * std::f64::consts::LN_2;
    let mut below_or_equal = log_term.exp();
    for k in 1..=fewer {
        log_term += ((discordant - k + 1) as f64 / k as f64).ln();
        below_or_equal += log_term.exp();
    }
    let p_value = (2.0 * below_or_equal - log_term.exp()).clamp(0.0, 1.0);
    McNemar { only_first, only_second, p_value }
}

/// Difference of two paired proportions, first minus second, with Newcombe's interval (1998, method 10: Wilson
/// intervals of the two proportions, with their correlation).
pub fn paired_difference(pairs: &[(bool, bool)]) -> (f64, Interval) {
    let n = pairs.len();
    if n == 0 {
        return (0.0, Interval { low: -1.0, high: 1.0 });
    }
    let count = |wanted: (bool, bool)| pairs.iter().filter(|&&pair| pair == wanted).count() as f64;
    let (both, first, second, neither) =
        (count((true, true)), count((true, false)), count((false, true)), count((false, false)));
    let total = n as f64;
    let share_first = (both + first) / total;
    let share_second = (both + second) / total;
    let interval_first = wilson((both + first) as usize, n);
    let interval_second = wilson((both + second) as usize, n);
    let product = (both + first) * (second + neither) * (both + second) * (first + neither);
    let correlation = if product == 0.0 {
        0.0
    } else {
        let numerator = both * neither - first * second;
        // Newcombe's continuity correction, for positive correlation only.
        let corrected = if numerator > 0.0 { (numerator - total / 2.0).max(0.0) } else { numerator };
        corrected / product.sqrt()
    };
    let reach = |a: f64, b: f64| (a * a - 2.0 * correlation * a * b + b * b).max(0.0).sqrt();
    let difference = share_first - share_second;
    let low = difference - reach(share_first - interval_first.low, interval_second.high - share_second);
    let high = difference + reach(interval_first.high - share_first, share_second - interval_second.low);
    (difference, Interval { low, high })
}

/// Unbiased pass@k from `n` samples of which `correct` pass (Chen et al. 2021); none when `k > n`.
pub fn pass_at_k(n: usize, correct: usize, k: usize) -> Option<f64> {
    if k == 0 || k > n || correct > n {
        return None;
    }
    if k == 1 {
        // The same as below, without its rounding.
        return Some(correct as f64 / n as f64);
    }
    if n - correct < k {
        return Some(1.0);
    }
    let miss: f64 = (n - correct + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - miss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 5e-5, "{found} is not {expected}");
    }

    /// Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I: 81/263 and 15/148.
    #[test]
    fn wilson_matches_newcombes_examples() {
        let interval = wilson(81, 263);
        near(interval.low, 0.2553);
        near(interval.high, 0.3662);
        let interval = wilson(15, 148);
        near(interval.low, 0.0624);
        near(interval.high, 0.1605);
        assert_eq!(wilson(0, 20).low, 0.0);
        near(wilson(0, 20).high, 0.1611);
        assert_eq!(wilson(29, 29).high, 1.0);
    }

    /// By hand: 3 against 10 discordant pairs. P(X ≤ 3 | 13, ½) = 378/8192, P(X = 3) = 286/8192.
    #[test]
    fn mcnemar_by_hand() {
        let mut pairs = vec![(true, false); 3];
        pairs.extend(vec![(false, true); 10]);
        pairs.extend(vec![(true, true); 5]);
        let found = mcnemar(&pairs);
        assert_eq!((found.only_first, found.only_second), (3, 10));
        near(found.p_value, (2.0 * 378.0 - 286.0) / 8192.0);
        near(mcnemar(&[(true, false), (false, true)]).p_value, 1.0);
        near(mcnemar(&[(true, true)]).p_value, 1.0);
    }

    #[test]
    fn mcnemar_survives_many_pairs() {
        let mut pairs = vec![(true, false); 4_000];
        pairs.extend(vec![(false, true); 1_000]);
        let found = mcnemar(&pairs);
        assert!(found.p_value.is_finite() && found.p_value < 1e-100);
    }

    /// Cells 20, 12, 2, 16; the expected ends come from the formula typed into Python, apart from this code.
    #[test]
    fn paired_difference_matches_the_formula_elsewhere() {
        let mut pairs = vec![(true, true); 20];
        pairs.extend(vec![(true, false); 12]);
        pairs.extend(vec![(false, true); 2]);
        pairs.extend(vec![(false, false); 16]);
        let (difference, interval) = paired_difference(&pairs);
        near(difference, 0.2);
        near(interval.low, 0.056_156);
        near(interval.high, 0.329_207);
    }

    #[test]
    fn pass_at_k_by_hand() {
        assert_eq!(pass_at_k(5, 0, 1), Some(0.0));
        assert_eq!(pass_at_k(5, 5, 5), Some(1.0));
        near(pass_at_k(5, 2, 1).expect("k ≤ n"), 0.4);
        // 1 − C(3,2)/C(5,2) = 1 − 3/10.
        near(pass_at_k(5, 2, 2).expect("k ≤ n"), 0.7);
        assert_eq!(pass_at_k(2, 1, 3), None);
    }

    proptest! {
        #[test]
        fn intervals_hold_the_estimate(count in 0_usize..200, extra in 0_usize..200) {
            let of = count + extra;
            prop_assume!(of > 0);
            let interval = wilson(count, of);
            let share = count as f64 / of as f64;
            prop_assert!(interval.low <= share + 1e-12 && share <= interval.high + 1e-12);
        }

        #[test]
        fn a_comparison_turned_round_changes_sign(pairs in prop::collection::vec((any::<bool>(), any::<bool>()), 1..60)) {
            let turned: Vec<(bool, bool)> = pairs.iter().map(|&(first, second)| (second, first)).collect();
            let (difference, interval) = paired_difference(&pairs);
            let (opposite, other) = paired_difference(&turned);
            prop_assert!((difference + opposite).abs() < 1e-12);
            prop_assert!((interval.low + other.high).abs() < 1e-9 && (interval.high + other.low).abs() < 1e-9);
            prop_assert!((mcnemar(&pairs).p_value - mcnemar(&turned).p_value).abs() < 1e-12);
        }
    }
}
