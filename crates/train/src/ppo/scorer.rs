//! Who says what an answer is worth.

use vul2safe_reward::Score;

use super::Rollout;

/// Scores the answers of an update. A closure from answers to scores is one.
pub trait Scorer {
    /// Told of each answer as soon as it is complete, while others are still being sampled; `place` is the answer's place in the
    /// update. A scorer with threads of its own begins here. The sampler waits for this call: the work is not done in it.
    fn begin(&mut self, place: usize, rollout: &Rollout) {
        let _ = (place, rollout);
    }

    /// The scores of all answers of the update, in their order, one an answer. Each was given to [`Scorer::begin`] before.
    fn finish(&mut self, rollouts: &[Rollout]) -> Vec<Score>;
}

impl<F: FnMut(&[Rollout]) -> Vec<Score>> Scorer for F {
    fn finish(&mut self, rollouts: &[Rollout]) -> Vec<Score> {
        self(rollouts)
    }
}
