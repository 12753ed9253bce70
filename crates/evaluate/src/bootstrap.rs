//! Intervals for figures of several answers a task: tasks are drawn, with all their answers.
//!
//! Answers to one task are alike, so that they are no independent observations: intervals that took them for such would be
//! too narrow.

use crate::statistics::wilson_of_share;
use crate::{Interval, wilson};

/// Resamples of a bootstrap and draws of a permutation test: enough for the second digit of a percent.
const DRAWS: usize = 2_000;

/// A percentile interval of Σ sum / Σ weight over tasks (`(sum, weight)` each), with tasks drawn with replacement (Efron
/// and Tibshirani 1993). The draws are the same in every run.
///
/// Where every task says the same, or where there is one, resampling would give an interval without width: there it is
/// Wilson's, with one observation a task. 0 to 1 for no task.
pub fn bootstrap(tasks: &[(f64, f64)]) -> Interval {
    let share = |(sum, weight): (f64, f64)| sum / weight;
    let constant = tasks.first().map(|&first| share(first));
    if let Some(value) =
        constant.filter(|value| tasks.iter().all(|&task| (share(task) - value).abs() < 1e-12))
    {
        let count = (value * tasks.len() as f64).round() as usize;
        let whole = value == 0.0 || value == 1.0;
        return if whole { wilson(count, tasks.len()) } else { wilson_of_share(value, tasks.len()) };
    }
    percentiles(tasks.len(), |draw| {
        let (mut sum, mut weight) = (0.0, 0.0);
        for index in draw {
            sum += tasks[index].0;
            weight += tasks[index].1;
        }
        sum / weight
    })
    .unwrap_or(Interval { low: 0.0, high: 1.0 })
}

/// The same for the mean of paired differences, −1 to 1 each. −1 to 1 for no task.
pub fn bootstrap_difference(differences: &[f64]) -> Interval {
    let count = differences.len() as f64;
    percentiles(differences.len(), |draw| draw.map(|index| differences[index]).sum::<f64>() / count)
        .unwrap_or(Interval { low: -1.0, high: 1.0 })
}

/// Two-sided p-value of a mean difference of 0: the share of random changes of sign that are at least as far from 0 (Fisher's
/// randomisation test), the observed one among them.
pub fn sign_flips(differences: &[f64]) -> f64 {
    let observed = differences.iter().sum::<f64>().abs();
    let mut random = Random(0x5eed);
    let as_far = (0..DRAWS)
        .filter(|_| {
            let sum: f64 = differences
                .iter()
                .map(|&difference| if random.next() >> 63 == 0 { difference } else { -difference })
                .sum();
            // Sums of the same numbers in another order differ in their last bits.
            sum.abs() >= observed - 1e-9
        })
        .count();
    (1 + as_far) as f64 / (1 + DRAWS) as f64
}

/// 2.5 % and 97.5 % of a statistic over draws of `count` indices with replacement.
fn percentiles(count: usize, statistic: impl Fn(&mut dyn Iterator<Item = usize>) -> f64) -> Option<Interval> {
    if count == 0 {
        return None;
    }
    let mut random = Random(0x5eed);
    let mut values: Vec<f64> =
        (0..DRAWS).map(|_| statistic(&mut (0..count).map(|_| random.below(count)))).collect();
    values.sort_by(f64::total_cmp);
    Some(Interval { low: values[DRAWS / 40], high: values[DRAWS - 1 - DRAWS / 40] })
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, each as likely but for 2⁻⁶⁴ · `count`.
    fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_answer_a_task_gives_about_wilsons_interval() {
        let tasks: Vec<(f64, f64)> = (0..200).map(|index| (f64::from(u8::from(index < 60)), 1.0)).collect();
        let (found, expected) = (bootstrap(&tasks), wilson(60, 200));
        assert!(
            (found.low - expected.low).abs() < 0.01 && (found.high - expected.high).abs() < 0.01,
            "{found:?}"
        );
    }

    #[test]
    fn answers_that_are_alike_do_not_make_it_narrower() {
        let once: Vec<(f64, f64)> = (0..40).map(|index| (f64::from(u8::from(index < 10)), 1.0)).collect();
        let ten: Vec<(f64, f64)> = once.iter().map(|(sum, weight)| (10.0 * sum, 10.0 * weight)).collect();
        let (once, ten) = (bootstrap(&once), bootstrap(&ten));
        assert!((once.low - ten.low).abs() < 1e-12 && (once.high - ten.high).abs() < 1e-12);
        // Independent answers would have given a third of the width.
        let naive = wilson(100, 400);
        assert!(ten.high - ten.low > 2.0 * (naive.high - naive.low));
    }

    #[test]
    fn all_or_nothing_still_has_a_width() {
        let interval = bootstrap(&[(5.0, 5.0); 20]);
        assert_eq!(interval, wilson(20, 20));
        assert_eq!(bootstrap(&[(0.0, 5.0); 20]), wilson(0, 20));
        let one = bootstrap(&[(3.0, 6.0)]);
        assert!(one.low < 0.1 && one.high > 0.9, "one task says little of others: {one:?}");
        assert_eq!(bootstrap(&[]), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn the_randomisation_test_by_hand() {
        // Three equal differences: 2 of 8 changes of sign are as far.
        assert!((sign_flips(&[1.0, 1.0, 1.0]) - 0.25).abs() < 0.03);
        assert_eq!(sign_flips(&[0.0, 0.0]), 1.0);
        assert!(sign_flips(&[0.5; 40]) < 0.001);
    }

    proptest! {
        #[test]
        fn intervals_lie_where_the_figure_can(tasks in prop::collection::vec((0_u8..=4).prop_map(|sum| (f64::from(sum), 4.0)), 1..30)) {
            let interval = bootstrap(&tasks);
            prop_assert!(0.0 <= interval.low && interval.low <= interval.high && interval.high <= 1.0);
        }
    }
}
