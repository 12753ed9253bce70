//! Advantages from a group of answers to one prompt, without a critic (GRPO; Shao et al. 2024, *DeepSeekMath*).

/// Keeps the division finite where all answers of a group score the same; veRL's value.
const EPSILON: f64 = 1e-6;

/// Outcome supervision (DeepSeekMath, section 4.1.2): every token of answer `i` gets `(R_i − mean(R)) / (std(R) + ε)` over its
/// group, where `R_i` is the sum of its rewards; the standard deviation is the unbiased one.
///
/// `groups[i]` names the group of answer `i`. An answer alone in its group keeps its own total: it has mean 0 and standard
/// deviation 1, as in veRL 0.9.1's `compute_grpo_outcome_advantage`.
pub fn group_advantages(rewards: &[Vec<f32>], groups: &[usize]) -> Vec<Vec<f32>> {
    let totals: Vec<f64> = rewards.iter().map(|answer| answer.iter().map(|r| f64::from(*r)).sum()).collect();
    rewards
        .iter()
        .zip(groups)
        .zip(&totals)
        .map(|((answer, group), total)| {
            let peers =
                totals.iter().zip(groups).filter(|(_, other)| *other == group).map(|(total, _)| *total);
            let (mean, deviation) = mean_and_deviation(peers);
            vec![((total - mean) / (deviation + EPSILON)) as f32; answer.len()]
        })
        .collect()
}

/// Process supervision (DeepSeekMath, section 4.1.3) with every rewarded token as a step: the rewards that are not 0 are
/// normalised over the group, and a token gets the sum of the normalised rewards from its own place on.
///
/// A group with a single rewarded token keeps that reward as it is; see [`group_advantages`].
pub fn group_token_advantages(rewards: &[Vec<f32>], groups: &[usize]) -> Vec<Vec<f32>> {
    rewards
        .iter()
        .zip(groups)
        .map(|(answer, group)| {
            let peers = rewards.iter().zip(groups).filter(|(_, other)| *other == group);
            let steps = peers.flat_map(|(peer, _)| peer.iter().filter(|r| **r != 0.0).map(|r| f64::from(*r)));
            let (mean, deviation) = mean_and_deviation(steps);
            let mut advantages = vec![0.0; answer.len()];
            let mut to_go = 0.0;
            for place in (0..answer.len()).rev() {
                if answer[place] != 0.0 {
                    to_go += (f64::from(answer[place]) - mean) / (deviation + EPSILON);
                }
                advantages[place] = to_go as f32;
            }
            advantages
        })
        .collect()
}

/// Mean and unbiased standard deviation; 0 and 1 for fewer than two values.
fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count();
    if count < 2 {
        return (0.0, 1.0);
    }
    let mean = values.clone().sum::<f64>() / count as f64;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_within_their_group() {
        let rewards = [vec![0.0, 1.0], vec![-1.0], vec![5.0], vec![5.0, 0.0, 0.0], vec![2.0]];
        let advantages = group_advantages(&rewards, &[0, 0, 1, 1, 2]);
        let half = 1.0 / 2.0f32.sqrt();
        for (place, expected) in [(0, half), (1, -half), (2, 0.0), (3, 0.0), (4, 2.0)] {
            assert_eq!(advantages[place].len(), rewards[place].len());
            assert!(advantages[place].iter().all(|a| (a - expected).abs() < 1e-5), "{advantages:?}");
        }
    }

    #[test]
    fn a_step_counts_for_itself_and_what_stands_before_it() {
        let rewards = [vec![0.0, 1.0, 0.0, -1.0], vec![0.0, -1.0]];
        let advantages = group_token_advantages(&rewards, &[0, 0]);
        // Rewards 1, −1, −1: mean −1/3, standard deviation 2/√3.
        let deviation = 2.0 / 3.0f32.sqrt();
        let (good, bad) = ((1.0 + 1.0 / 3.0) / deviation, (-1.0 + 1.0 / 3.0) / deviation);
        let expected = [vec![good + bad, good + bad, bad, bad], vec![bad, bad]];
        for (ours, expected) in advantages.concat().iter().zip(expected.concat()) {
            assert!((ours - expected).abs() < 1e-5, "{advantages:?}");
        }
    }
}
