//! Which prompts an update draws, and the answers to them.

use std::ops::ControlFlow;

use vul2safe_model::{Event, Finish, GenerateOptions, Model, SamplingOptions};

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

/// Samples an answer to each chosen prompt at temperature 1 from the whole distribution, and tells `complete` of each as soon as it is
/// there, with its place among the chosen.
pub(super) fn sample(
    actor: &Model,
    prompts: &[PpoPrompt],
    chosen: &[usize],
    config: &PpoConfig,
    update: u64,
    complete: &mut dyn FnMut(usize, &Rollout),
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
    let mut rollouts: Vec<Rollout> = chosen
        .iter()
        .zip(&ids)
        .map(|(&prompt, ids)| Rollout {
            prompt,
            ids: ids.clone(),
            prompt_length: ids.len(),
            log_probs: Vec::new(),
            finished: false,
        })
        .collect();
    actor.generate_stream(&ids, &options, GenerateOptions::default(), &mut |event| {
        match event {
            Event::Token { request, id, log_prob } => {
                rollouts[request].ids.push(id);
                rollouts[request].log_probs.push(log_prob);
            }
            Event::Finished { request, finish } => {
                rollouts[request].finished = finish == Finish::Stop;
                complete(request, &rollouts[request]);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(rollouts)
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
