//! What PPO does to tokens that carry a reward, that carry a penalty, and to the others.

use super::experience::Episode;
use super::update::Mean;

/// The three classes, by the scorer's reward of the token.
const NAMES: [Names; 3] = [
    Names {
        clip: "clip_fraction_rewarded",
        lost: "gradient_lost_rewarded",
        ratio: "ratio_rewarded",
        advantage: "advantage_rewarded",
        divergence: "kl_reference_rewarded",
    },
    Names {
        clip: "clip_fraction_penalised",
        lost: "gradient_lost_penalised",
        ratio: "ratio_penalised",
        advantage: "advantage_penalised",
        divergence: "kl_reference_penalised",
    },
    Names {
        clip: "clip_fraction_other",
        lost: "gradient_lost_other",
        ratio: "ratio_other",
        advantage: "advantage_other",
        divergence: "kl_reference_other",
    },
];

struct Names {
    clip: &'static str,
    lost: &'static str,
    ratio: &'static str,
    advantage: &'static str,
    divergence: &'static str,
}

/// Which class a token with this reward belongs to.
fn class(reward: f32) -> usize {
    match reward {
        reward if reward > 0.0 => 0,
        reward if reward < 0.0 => 1,
        _ => 2,
    }
}

/// What the optimiser steps did to each class.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Classes([Class; 3]);

#[derive(Debug, Default, Clone, Copy)]
struct Class {
    clipped: Mean,
    ratio: Mean,
    /// Sizes of the gradients that were lost, and of all that there would have been.
    lost: f64,
    gradients: f64,
}

impl Classes {
    /// Adds a token of an optimiser step: whether it was clipped, its ratio, the size of its gradient, and of what of it was lost.
    pub fn add(&mut self, reward: f32, clipped: bool, ratio: f64, gradient: f64, lost: f64) {
        let class = &mut self.0[class(reward)];
        class.clipped.add(f64::from(u8::from(clipped)));
        class.ratio.add(ratio);
        class.lost += lost;
        class.gradients += gradient + lost;
    }

    pub fn merge(&mut self, other: &Classes) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            own.clipped.merge(other.clipped);
            own.ratio.merge(other.ratio);
            own.lost += other.lost;
            own.gradients += other.gradients;
        }
    }
}

/// The metrics of the classes that have tokens.
pub(super) fn metrics(episodes: &[Episode], classes: &Classes) -> Vec<(&'static str, f64)> {
    let mut seen = [(Mean::default(), Mean::default()); 3];
    for episode in episodes {
        for (place, reward) in episode.rewards.iter().enumerate() {
            let (advantage, divergence) = &mut seen[class(*reward)];
            advantage.add(f64::from(episode.advantages[place]));
            let difference = episode.old_log_prob[place] - episode.reference_log_prob[place];
            divergence.add(f64::from(difference));
        }
    }
    let mut metrics = Vec::new();
    for ((names, class), (advantage, divergence)) in NAMES.iter().zip(&classes.0).zip(seen) {
        let lost = (class.gradients > 0.0).then(|| class.lost / class.gradients);
        let values = [
            (names.clip, class.clipped.value()),
            (names.lost, lost),
            (names.ratio, class.ratio.value()),
            (names.advantage, advantage.value()),
            (names.divergence, divergence.value()),
        ];
        metrics.extend(values.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
    }
    metrics
}
