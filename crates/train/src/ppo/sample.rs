//! Which prompts an update draws, and the answers to them.

use vul2safe_model::{Finish, Model, SamplingOptions};

use super::{PpoPrompt, Rollout, config::PpoConfig};
use crate::{
    TrainError,
    seeds::{Stream, derive, permutation},
};

/// Prompts of one update, one entry a rollout.
///
/// The prompts are walked through in a new random order in every pass, so that each is drawn before any is drawn again.
pub(super) fn choose(count: usize, config: &PpoConfig, update: u64) -> Vec<usize> {
    let first = update * config.rollouts_per_update as u64;
    let mut order = (u64::MAX, Vec::new());
    (first..first + config.rollouts_per_update as u64)
        .map(|rollout| {
            let draw = rollout / config.answers_per_prompt as u64;
            let pass = draw / count as u64;
            if order.0 != pass {
                order = (pass, permutation(count, config.seed, Stream::Prompts, pass, 0));
            }
            order.1[(draw % count as u64) as usize]
        })
        .collect()
}

/// Samples an answer to each chosen prompt at temperature 1 from the whole distribution.
pub(super) fn sample(
    actor: &Model,
    prompts: &[PpoPrompt],
    chosen: &[usize],
    config: &PpoConfig,
    update: u64,
) -> Result<Vec<Rollout>, TrainError> {
    let ids: Vec<Vec<u32>> = chosen.iter().map(|&prompt| prompts[prompt].ids.clone()).collect();
    let options: Vec<SamplingOptions> = (0..chosen.len() as u64)
        .map(|place| SamplingOptions {
            maximum_new_tokens: config.maximum_new_tokens,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            stop_ids: config.stop_ids.clone(),
            seed: derive(config.seed, Stream::Answer, update, place),
            ..SamplingOptions::default()
        })
        .collect();
    let answers = actor.generate(&ids, &options)?;
    Ok(chosen
        .iter()
        .zip(ids)
        .zip(answers)
        .map(|((&prompt, mut ids), answer)| {
            let prompt_length = ids.len();
            ids.extend(&answer.ids);
            let finished = matches!(answer.finished, Finish::Stop);
            Rollout { prompt, ids, prompt_length, log_probs: answer.log_probs, finished }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_is_drawn_before_any_is_drawn_again() {
        let config =
            PpoConfig { rollouts_per_update: 6, answers_per_prompt: 2, seed: 4, ..PpoConfig::default() };
        let draws: Vec<usize> = (0..4).flat_map(|update| choose(4, &config, update)).collect();
        assert!(draws.chunks(2).all(|pair| pair[0] == pair[1]));
        for pass in draws.chunks(8) {
            let mut prompts: Vec<usize> = pass.to_vec();
            prompts.sort_unstable();
            assert_eq!(prompts, [0, 0, 1, 1, 2, 2, 3, 3]);
        }
        assert_eq!(choose(4, &config, 2), choose(4, &config, 2));
    }
}
