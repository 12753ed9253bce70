//! From scored answers to what the losses need of every token.

use std::time::Instant;

use vul2safe_model::{Model, Packed, Pass, ScoredPass};
use vul2safe_reward::Score;

use super::{
    Rollout,
    config::{AdvantageKind, KlPlacement, PpoConfig, ValueStart},
    state::PpoState,
};
use crate::{
    TrainError, batches,
    math::{KlEstimator, gae, group_advantages, group_token_advantages, kl, masked_whiten},
    seeds::{Stream, permutation},
};

/// A scored answer; the slices have one entry a response token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Episode {
    /// Prompt and response.
    pub ids: Vec<u32>,
    pub prompt_length: usize,
    /// Which answers it is compared with: those to the same draw of a prompt.
    pub group: usize,
    /// The scorer's token rewards, without the KL term.
    pub rewards: Vec<f32>,
    /// Log-probs of the policy that sampled, by the training path.
    pub old_log_prob: Vec<f32>,
    pub reference_log_prob: Vec<f32>,
    pub old_values: Vec<f32>,
    pub advantages: Vec<f32>,
    pub returns: Vec<f32>,
}

impl Episode {
    /// Number of response tokens.
    pub fn length(&self) -> usize {
        self.ids.len() - self.prompt_length
    }
}

/// Micro-batches of one optimiser step, as places in the list of episodes.
pub(super) type Minibatch = Vec<Vec<usize>>;

/// The minibatches of one pass over the episodes.
pub(super) fn plan(episodes: &[Episode], config: &PpoConfig, update: u64, epoch: usize) -> Vec<Minibatch> {
    let order = permutation(episodes.len(), config.seed, Stream::Minibatches, update, epoch as u64);
    let responses: Vec<usize> = episodes.iter().map(Episode::length).collect();
    let lengths: Vec<usize> = episodes.iter().map(|episode| episode.ids.len()).collect();
    batches::split(&order, &responses, config.minibatches)
        .iter()
        .map(|minibatch| batches::fill(minibatch, &lengths, config.tokens_per_microbatch))
        .collect()
}

/// Runs a packed micro-batch; the pass's rows are the response tokens of one episode after the other. With `keep` it can go back.
pub(super) fn forward(model: &Model, episodes: &[&Episode], keep: bool) -> Result<ScoredPass, TrainError> {
    let (mut rows, mut targets, mut offset) = (Vec::new(), Vec::new(), 0);
    for episode in episodes {
        // The row before a token is the state in which it is chosen. Prompts are never empty, so there is one.
        let first = offset + episode.prompt_length - 1;
        rows.extend((first..first + episode.length()).map(|row| row as u32));
        targets.extend_from_slice(&episode.ids[episode.prompt_length..]);
        offset += episode.ids.len();
    }
    let packed = Packed::new(&episodes.iter().map(|episode| episode.ids.as_slice()).collect::<Vec<_>>());
    Ok(model.scored_pass(&packed, &rows, &targets, 1.0, keep.then(Pass::default))?)
}

/// The answers of one update, ready to train on.
pub(super) struct Experience {
    pub episodes: Vec<Episode>,
    /// The first pass, whose packing the old log-probs were computed in: with the same packing the ratio is exactly 1.
    pub first_pass: Vec<Minibatch>,
    /// Mean entropy of the sampling policy, nats a token.
    pub entropy: f64,
    /// Mean of `log π − log π_ref`, nats a token.
    pub kl_token: f64,
    /// The same summed over an answer, mean over answers.
    pub kl_answer: f64,
    /// Wall-clock time of the sampling policy's log-probs and values, and of the reference's log-probs.
    pub seconds_old: f64,
    pub seconds_reference: f64,
}

/// Keeps the scored answers; the reason of the first unscored one comes with their number.
pub(super) fn episodes(
    rollouts: &[Rollout],
    scores: &[Score],
    answers_per_prompt: usize,
    update: u64,
) -> Result<(Vec<Episode>, usize, Option<String>), TrainError> {
    if scores.len() != rollouts.len() {
        let (expected, found) = (rollouts.len(), scores.len());
        return Err(TrainError::ScoreShape { update, what: "scores", expected, found });
    }
    let (mut kept, mut unscored, mut first_reason) = (Vec::new(), 0, None);
    for (place, (rollout, score)) in rollouts.iter().zip(scores).enumerate() {
        if rollout.prompt_length == 0 || rollout.prompt_length > rollout.ids.len() {
            let problem = format!(
                "rollout {place} has {} ids and a prompt of {}: a prompt has at least one, and no more than all",
                rollout.ids.len(),
                rollout.prompt_length
            );
            return Err(TrainError::NoData { stage: "ppo", problem });
        }
        let expected = rollout.ids.len() - rollout.prompt_length;
        let scored = match score {
            Score::Scored(scored) if expected > 0 => scored,
            other => {
                unscored += 1;
                first_reason.get_or_insert_with(|| match other {
                    Score::Unscored { why } => why.clone(),
                    Score::Scored(_) => "the answer has no token".to_owned(),
                });
                continue;
            }
        };
        if scored.rewards.len() != expected {
            let found = scored.rewards.len();
            return Err(TrainError::ScoreShape { update, what: "token rewards", expected, found });
        }
        if let Some(reward) = scored.rewards.iter().find(|reward| !reward.is_finite()) {
            return Err(TrainError::NotFinite {
                stage: "ppo",
                what: "a token reward".to_owned(),
                value: f64::from(*reward),
                step: update,
                batch: format!("rollout {place}, prompt {}", rollout.prompt),
            });
        }
        kept.push(Episode {
            ids: rollout.ids.clone(),
            prompt_length: rollout.prompt_length,
            group: place / answers_per_prompt.max(1),
            rewards: scored.rewards.clone(),
            old_log_prob: Vec::new(),
            reference_log_prob: Vec::new(),
            old_values: Vec::new(),
            advantages: Vec::new(),
            returns: Vec::new(),
        });
    }
    Ok((kept, unscored, first_reason))
}

/// Log-probs, values, rewards with KL, advantages and returns of all episodes.
pub(super) fn gather(
    actor: &Model,
    reference: &Model,
    mut episodes: Vec<Episode>,
    state: &mut PpoState,
    config: &PpoConfig,
) -> Result<Experience, TrainError> {
    let first_pass = plan(&episodes, config, state.update, 0);
    let (mut entropy, mut seconds_old, mut seconds_reference) = (0.0, 0.0, 0.0);
    for micro in first_pass.iter().flatten() {
        let batch: Vec<&Episode> = micro.iter().map(|&index| &episodes[index]).collect();
        let begun = Instant::now();
        // The pass itself is given back before the reference's begins.
        let (log_prob, entropies, values) = {
            let pass = forward(actor, &batch, false)?;
            // The value of the state in which each token was chosen.
            let values: Vec<f32> = match config.has_critic() {
                true => state.head.forward(&pass.hidden()?)?.to_vec1()?,
                false => vec![0.0; pass.log_prob.len()],
            };
            (pass.log_prob, pass.entropy, values)
        };
        seconds_old += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let reference = forward(reference, &batch, false)?.log_prob;
        seconds_reference += begun.elapsed().as_secs_f64();
        entropy += entropies.iter().map(|value| f64::from(*value)).sum::<f64>();
        let mut start = 0;
        for &index in micro {
            let episode = &mut episodes[index];
            let range = start..start + episode.length();
            start = range.end;
            episode.old_log_prob = log_prob[range.clone()].to_vec();
            episode.reference_log_prob = reference[range.clone()].to_vec();
            episode.old_values = values[range].to_vec();
        }
    }
    let tokens: usize = episodes.iter().map(Episode::length).sum();
    let divergence: f64 =
        episodes.iter().map(|episode| f64::from(divergences(episode).iter().sum::<f32>())).sum();

    let rewards: Vec<Vec<f32>> =
        episodes.iter().map(|episode| penalised(episode, state.kl_coefficient, config)).collect();
    if config.has_critic() && !state.value_started {
        state.value_started = true;
        if config.value.start == ValueStart::MeanReturn {
            let mean = mean_return(&rewards, config.gamma);
            state.head.set_bias(mean)?;
            // The head's last layer is still 0, so that its output is the bias and nothing else.
            episodes.iter_mut().for_each(|episode| episode.old_values.fill(mean));
        }
    }
    let groups: Vec<usize> = episodes.iter().map(|episode| episode.group).collect();
    let compared = match config.advantage {
        AdvantageKind::Gae => None,
        AdvantageKind::Group => Some(group_advantages(&rewards, &groups)),
        AdvantageKind::GroupToken => Some(group_token_advantages(&rewards, &groups)),
    };
    match compared {
        None => {
            for (episode, rewards) in episodes.iter_mut().zip(&rewards) {
                let result = gae(rewards, &episode.old_values, None, config.gamma, config.lambda);
                episode.advantages = result.advantages;
                episode.returns = result.returns;
            }
        }
        // Nothing learns the values then; a return is a value's target, and so they are their own.
        Some(advantages) => {
            for (episode, advantages) in episodes.iter_mut().zip(advantages) {
                episode.advantages = advantages;
                episode.returns = episode.old_values.clone();
            }
        }
    }
    // A group's advantages are normalised already.
    if config.whiten_advantages && config.has_critic() {
        let all: Vec<f32> = episodes.iter().flat_map(|episode| episode.advantages.iter().copied()).collect();
        let mut whitened = masked_whiten(&all, &vec![true; all.len()], true).into_iter();
        for episode in &mut episodes {
            episode.advantages = whitened.by_ref().take(episode.advantages.len()).collect();
        }
    }
    let (kl_token, kl_answer) = (divergence / tokens as f64, divergence / episodes.len() as f64);
    let entropy = entropy / tokens as f64;
    Ok(Experience { episodes, first_pass, entropy, kl_token, kl_answer, seconds_old, seconds_reference })
}

/// k1 of every token.
fn divergences(episode: &Episode) -> Vec<f32> {
    let pairs = episode.old_log_prob.iter().zip(&episode.reference_log_prob);
    pairs.map(|(policy, reference)| kl(*policy, *reference, KlEstimator::K1)).collect()
}

/// Token rewards, less the divergence if that counts in the reward.
fn penalised(episode: &Episode, coefficient: f64, config: &PpoConfig) -> Vec<f32> {
    if config.kl.placement != KlPlacement::Reward {
        return episode.rewards.clone();
    }
    let pairs = episode.rewards.iter().zip(divergences(episode));
    pairs.map(|(reward, divergence)| reward - coefficient as f32 * divergence).collect()
}

/// Mean over all tokens of the discounted rewards to go.
fn mean_return(rewards: &[Vec<f32>], gamma: f64) -> f32 {
    let (mut sum, mut count) = (0.0, 0usize);
    for rewards in rewards {
        let mut to_go = 0.0;
        for reward in rewards.iter().rev() {
            to_go = f64::from(*reward) + gamma * to_go;
            sum += to_go;
        }
        count += rewards.len();
    }
    (sum / count.max(1) as f64) as f32
}
