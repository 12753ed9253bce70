//! Figures of several seeds of the same training: each seed is one observation.

use crate::Interval;

/// 97.5 % quantiles of Student's t distribution for 1 to 30 degrees of freedom.
const QUANTILES: [f64; 30] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604,
    2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555,
    2.0518, 2.0484, 2.0452, 2.0423,
];
/// Up to so many seeds every change of signs is tried.
const EXACT: usize = 16;

/// The mean of one figure a seed with Student's 95 % interval; no interval for one seed, nothing for none.
pub fn over_seeds(values: &[f64]) -> Option<(f64, Option<Interval>)> {
    let count = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return Some((mean, None));
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // Beyond the table the last quantile: a little too wide rather than too narrow.
    let quantile = QUANTILES[(values.len() - 2).min(QUANTILES.len() - 1)];
    let half = quantile * (variance / count).sqrt();
    Some((mean, Some(Interval { low: mean - half, high: mean + half })))
}

/// Two-sided p-value of a mean difference of 0 over seeds: the share of all changes of sign that are at least as far from 0
/// (Fisher's randomisation test, exact up to 16 seeds). With n seeds it cannot be below 2¹⁻ⁿ.
pub fn sign_flips_of_seeds(differences: &[f64]) -> f64 {
    if differences.len() > EXACT {
        return crate::sign_flips(differences);
    }
    let observed = differences.iter().sum::<f64>().abs();
    let all = 1_u32 << differences.len();
    let as_far = (0..all)
        .filter(|signs| {
            let flipped = |index: usize| if signs >> index & 1 == 0 { 1.0 } else { -1.0 };
            let sum: f64 = differences.iter().enumerate().map(|(index, value)| flipped(index) * value).sum();
            sum.abs() >= observed - 1e-9
        })
        .count();
    as_far as f64 / f64::from(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_interval_by_hand() {
        // Mean 2, standard deviation 1, n = 3: 4.3027 / √3 = 2.4842.
        let (mean, interval) = over_seeds(&[1.0, 2.0, 3.0]).expect("values");
        let interval = interval.expect("several seeds");
        assert_eq!(mean, 2.0);
        assert!(
            (interval.high - 4.4842).abs() < 1e-3 && (interval.low + 0.4842).abs() < 1e-3,
            "{interval:?}"
        );
        assert_eq!(over_seeds(&[5.0]), Some((5.0, None)));
        assert_eq!(over_seeds(&[]), None);
    }

    #[test]
    fn the_randomisation_test_is_exact() {
        assert_eq!(sign_flips_of_seeds(&[1.0; 3]), 0.25);
        assert_eq!(sign_flips_of_seeds(&[0.5; 8]), 2.0 / 256.0);
        assert_eq!(sign_flips_of_seeds(&[1.0, -1.0]), 1.0);
    }
}
