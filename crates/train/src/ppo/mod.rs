//! PPO with one reward a token.
//!
//! Each update samples answers from the actor, has them scored by the caller's [`Scorer`] (which is told of each answer while others
//! are still being sampled), and takes a few optimiser steps.
//! The same code serves every arm: what differs is where the scorer puts its rewards and which λ the configuration names
//! (0.95 for rewards on their tokens, 1 for one number on the last token).
//!
//! What holds:
//! * Old log-probs come from the same forward pass, in the same packing, as the first optimiser step: its ratio is exactly 1.
//! * Prompts are never padded and prompt tokens carry no loss.
//! * Answers without a score are left out and counted; more than `maximum_unscored_share` of them is an error.
//! * Every random choice is a function of seed and update, so that a run resumed from [`PpoState`] gives the same bits.
//! * A truncated answer is handed to the scorer as such (`finished` is false), and its last value is not bootstrapped.
//!
//! # Metrics of an update
//!
//! | metric | what it is |
//! |---|---|
//! | `reward_mean` | mean over answers of the sum of the scorer's token rewards (no KL) |
//! | `reward_positive`, `reward_negative` | the same for the positive and the negative token rewards alone |
//! | `reward_record`, `reward_related`, `reward_finding`, `reward_quote` | what evidence of each origin earned or cost, mean over answers |
//! | `reward_instance` | the instance-level part R(y), mean over answers |
//! | `cheat_…` | share of the scored answers that show a known way to cheat; one metric for each |
//! | `failure_rate` | share of the scored answers that the scorer called failed |
//! | `evidence_share` | share of the scored answers with at least one piece of evidence |
//! | `rewarded_token_share` | share of the response tokens whose reward is not 0 |
//! | `unscored` | answers left out because they have no score |
//! | `finished_share` | share of all answers that ended by themselves |
//! | `response_length` | mean response tokens of the scored answers |
//! | `kl_reference` | mean of `log π − log π_ref`, nats a token |
//! | `kl_reference_answer` | the same summed over an answer, mean over answers; what an adaptive κ follows |
//! | `kl_coefficient` | κ used in this update |
//! | `entropy` | mean entropy of the sampling policy, nats a token |
//! | `policy_loss`, `value_loss` | means over the optimiser steps; the policy's with KL and entropy terms |
//! | `ratio_max` | largest probability ratio of any step |
//! | `first_ratio_error` | largest distance of a ratio from 1 at the first step; 0, or something is wrong |
//! | `clip_fraction` | share of tokens held by the policy clip or the dual clip, over all steps |
//! | `clip_fraction_rewarded`, `_penalised`, `_other` | the same among tokens with a reward above 0, below 0 and of 0; absent if there are none |
//! | `gradient_lost_rewarded`, `_penalised`, `_other` | share of the size of these tokens' policy gradients that a clip took away |
//! | `ratio_rewarded`, `_penalised`, `_other` | mean probability ratio of these tokens over all steps |
//! | `advantage_rewarded`, `_penalised`, `_other` | mean advantage of these tokens, as the loss sees it |
//! | `kl_reference_rewarded`, `_penalised`, `_other` | mean of `log π − log π_ref` of these tokens |
//! | `kl_update` | divergence from the sampling policy (k3), nats a token, mean over the steps |
//! | `explained_variance` | of the returns, by the values at sampling time; absent if the returns do not vary |
//! | `gradient_norm`, `value_gradient_norm` | global L2 norm before clipping, mean over the steps |
//! | `learning_rate` | the actor's, at the last step |
//! | `steps` | optimiser steps taken |
//! | `stopped_early` | 1 if `target_kl` cut the update short |
//! | `sampling_difference` | mean distance between the sampler's log-probs and the training path's, nats |
//! | `seconds_sample`, `seconds_score`, `seconds_update` | wall-clock time; of scoring what comes after the last answer is sampled |
//! | `seconds_old`, `seconds_reference` | the part of `seconds_update` for the log-probs of the sampling policy (with the values) and of the reference |

mod classes;
mod config;
mod experience;
mod sample;
mod scorer;
mod state;
mod update;
mod value_head;

use std::time::Instant;

use serde::Serialize;
use vul2safe_model::Model;
use vul2safe_reward::{Cheat, Evidence, Origin, Score, Scored};

pub use config::{AdvantageKind, KlConfig, KlPlacement, PpoConfig, ValueConfig, ValueStart};
pub use scorer::Scorer;
pub use state::PpoState;

use self::{
    experience::{Episode, Experience},
    update::UpdateStatistics,
};
use crate::{
    CallbackError, TrainError, broken_weight, checkpointing::Checkpointing, math::explained_variance,
};

/// A request to sample answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PpoPrompt {
    /// Its name in messages and samples.
    pub id: String,
    /// Its ids, ready for generation; not empty.
    pub ids: Vec<u32>,
}

/// A sampled answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Place of the prompt in the list given to [`ppo`].
    pub prompt: usize,
    /// Prompt and response.
    pub ids: Vec<u32>,
    /// Number of prompt ids.
    pub prompt_length: usize,
    /// Log-prob of each response token, as the sampler computed it.
    pub log_probs: Vec<f32>,
    /// Whether the answer ended by itself, not at the length limit.
    pub finished: bool,
}

impl Rollout {
    /// The response's ids.
    pub fn response(&self) -> &[u32] {
        &self.ids[self.prompt_length..]
    }
}

/// What the observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// End here, without an error.
    Stop,
}

/// Told to the observer after each update.
#[derive(Debug)]
pub struct PpoEvent<'a> {
    /// The update just finished, from 0.
    pub update: u64,
    /// Updates planned.
    pub updates: u64,
    /// The metrics of the table in the module's documentation.
    pub metrics: &'a [(&'static str, f64)],
    /// The answers of this update with their scores, for updates chosen by `sample_every`. They were sampled before the
    /// update's optimiser steps.
    pub samples: Option<(&'a [Rollout], &'a [Score])>,
    /// The actor after the update.
    pub actor: &'a Model,
    /// The state after the update; [`PpoState::save`] writes a checkpoint from which [`ppo_from`] continues.
    pub state: &'a PpoState,
}

/// What a PPO run did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PpoSummary {
    /// Updates finished, those before a resume included.
    pub updates: u64,
    /// Answers trained on.
    pub rollouts: u64,
    /// Answers left out because they had no score.
    pub unscored: u64,
    /// Whether the observer ended the run.
    pub stopped: bool,
    /// Metrics of the last update; empty if none ran.
    pub last: Vec<(&'static str, f64)>,
    /// Wall-clock seconds of this call.
    pub seconds: f64,
}

/// Sees each update; an error ends the run and is passed on.
pub type Observer<'a> = dyn FnMut(PpoEvent<'_>) -> Result<Control, CallbackError> + 'a;

/// Trains `actor` in place from its first update on.
///
/// `reference` is never changed; it usually is [`Model::duplicate`] of the actor before training.
///
/// # Errors
/// [`TrainError::Config`] before anything is done; [`TrainError::NotFinite`] and [`TrainError::Collapsed`] name the update;
/// [`TrainError::TooManyUnscored`]; [`TrainError::ScoreShape`] if the scorer's answer does not fit; errors of the observer.
pub fn ppo(
    actor: &Model,
    reference: &Model,
    prompts: &[PpoPrompt],
    config: &PpoConfig,
    scorer: &mut dyn Scorer,
    observer: &mut Observer<'_>,
) -> Result<PpoSummary, TrainError> {
    config.check()?;
    let mut state = PpoState::new(actor, config)?;
    ppo_from(&mut state, actor, reference, prompts, config, scorer, observer)
}

/// Continues from a state, which with its actor comes from [`PpoState::load`] (or [`PpoState::new`]).
///
/// # Errors
/// As [`ppo`].
pub fn ppo_from(
    state: &mut PpoState,
    actor: &Model,
    reference: &Model,
    prompts: &[PpoPrompt],
    config: &PpoConfig,
    scorer: &mut dyn Scorer,
    observer: &mut Observer<'_>,
) -> Result<PpoSummary, TrainError> {
    config.check()?;
    check_prompts(prompts, config, actor)?;
    let start = Instant::now();
    let updates = config.updates as u64;
    let (mut last, mut stopped) = (Vec::new(), false);
    while state.update < updates && !stopped {
        let update = state.update;
        let begun = Instant::now();
        let chosen = sample::choose(prompts.len(), config, update);
        let mut begin = |place: usize, rollout: &Rollout| scorer.begin(place, rollout);
        let rollouts = sample::sample(actor, prompts, &chosen, config, update, &mut begin)?;
        vul2safe_model::give_freed_memory_back();
        let seconds_sample = begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let scores = scorer.finish(&rollouts);
        let seconds_score = begun.elapsed().as_secs_f64();

        last = update_on(state, actor, reference, &rollouts, &scores, config)?;
        last.extend([("seconds_sample", seconds_sample), ("seconds_score", seconds_score)]);
        let chosen = state.update == updates
            || (config.sample_every > 0 && update.is_multiple_of(config.sample_every as u64));
        let event = PpoEvent {
            update,
            updates,
            metrics: &last,
            samples: chosen.then_some((&rollouts, &scores)),
            actor,
            state,
        };
        stopped = observer(event).map_err(TrainError::Callback)? == Control::Stop;
    }
    Ok(PpoSummary {
        updates: state.update,
        rollouts: state.rollouts,
        unscored: state.unscored,
        stopped,
        last,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// One update on answers that are given with their scores: log-probs of the sampling policy (`actor` as it stands) and of the
/// reference, values, advantages, and the optimiser steps. Gives the metrics of the module's table, apart from those of
/// sampling and scoring, and leaves `state` at the next update.
///
/// `reference` may share the base's memory with `actor`: [`Model::without_adapter`] costs nothing.
///
/// # Errors
/// Those of [`ppo_from`], and [`TrainError::NoData`] for a rollout whose prompt is empty or longer than its ids.
pub fn update_on(
    state: &mut PpoState,
    actor: &Model,
    reference: &Model,
    rollouts: &[Rollout],
    scores: &[Score],
    config: &PpoConfig,
) -> Result<Vec<(&'static str, f64)>, TrainError> {
    config.check()?;
    let begun = Instant::now();
    let update = state.update;
    let (episodes, unscored, why) =
        experience::episodes(rollouts, scores, config.answers_per_prompt, update)?;
    let allowed = config.maximum_unscored_share * rollouts.len() as f64;
    if unscored as f64 > allowed || episodes.is_empty() {
        let why = why.unwrap_or_default();
        return Err(TrainError::TooManyUnscored { update, unscored, of: rollouts.len(), why });
    }
    let _checkpointing = Checkpointing::set(actor, config.gradient_checkpointing);
    let coefficient = state.kl_coefficient;
    let experience = experience::gather(actor, reference, episodes, state, config)?;
    check_health(actor, &experience, config, update)?;
    let statistics = update::train(actor, &experience, state, config)?;
    if let Some(adaptive) = config.kl.adaptive {
        state.kl_coefficient = adaptive.update(coefficient, experience.kl_answer, experience.episodes.len());
    }
    state.update += 1;
    state.rollouts += experience.episodes.len() as u64;
    state.unscored += unscored as u64;

    let mut metrics = metrics(rollouts, scores, &experience, &statistics);
    metrics.extend([
        ("kl_coefficient", coefficient),
        ("seconds_old", experience.seconds_old),
        ("seconds_reference", experience.seconds_reference),
        ("seconds_update", begun.elapsed().as_secs_f64()),
    ]);
    Ok(metrics)
}

/// Refuses prompts that are empty or leave no room for the longest answer.
fn check_prompts(prompts: &[PpoPrompt], config: &PpoConfig, actor: &Model) -> Result<(), TrainError> {
    let refuse = |problem: String| Err(TrainError::NoData { stage: "ppo", problem });
    let positions = actor.config().max_position_embeddings;
    if prompts.is_empty() {
        return refuse("there are no prompts".to_owned());
    }
    match prompts
        .iter()
        .find(|prompt| prompt.ids.is_empty() || prompt.ids.len() + config.maximum_new_tokens > positions)
    {
        None => Ok(()),
        Some(prompt) if prompt.ids.is_empty() => refuse(format!("prompt `{}` is empty", prompt.id)),
        Some(prompt) => refuse(format!(
            "prompt `{}` has {} tokens; with {} new ones it exceeds the model's {positions} positions",
            prompt.id,
            prompt.ids.len(),
            config.maximum_new_tokens
        )),
    }
}

/// Stops before an update that would train on the wreck of a policy.
fn check_health(
    actor: &Model,
    experience: &Experience,
    config: &PpoConfig,
    update: u64,
) -> Result<(), TrainError> {
    for (what, value) in
        [("the entropy", experience.entropy), ("the divergence from the reference", experience.kl_token)]
    {
        if !value.is_finite() {
            let batch = format!("of {} answers", experience.episodes.len());
            let place = broken_weight(actor).map_or(String::new(), |weight| format!(" ({weight})"));
            return Err(TrainError::NotFinite {
                stage: "ppo",
                what: format!("{what}{place}"),
                value,
                step: update,
                batch,
            });
        }
    }
    let tokens: usize = experience.episodes.iter().map(Episode::length).sum();
    let length = tokens as f64 / experience.episodes.len() as f64;
    if length < config.minimum_response_length {
        let (value, limit) = (length, config.minimum_response_length);
        return Err(TrainError::Collapsed { update, what: "the mean length of answers", value, limit });
    }
    if experience.kl_token > config.maximum_kl {
        let (value, limit) = (experience.kl_token, config.maximum_kl);
        return Err(TrainError::Diverged { update, value, limit });
    }
    if experience.entropy < config.minimum_entropy {
        let (value, limit) = (experience.entropy, config.minimum_entropy);
        return Err(TrainError::Collapsed { update, what: "the mean entropy", value, limit });
    }
    Ok(())
}

/// The metrics of one update, apart from times and κ.
fn metrics(
    rollouts: &[Rollout],
    scores: &[Score],
    experience: &Experience,
    statistics: &UpdateStatistics,
) -> Vec<(&'static str, f64)> {
    let scored: Vec<&Scored> = scores
        .iter()
        .filter_map(|score| match score {
            Score::Scored(scored) if !scored.rewards.is_empty() => Some(scored),
            _ => None,
        })
        .collect();
    let answers = scored.len() as f64;
    let share = |count: usize| count as f64 / answers;
    let rewards = || scored.iter().flat_map(|scored| scored.rewards.iter().map(|reward| f64::from(*reward)));
    let tokens = rewards().count() as f64;
    let paid_by = |wanted: &dyn Fn(&Evidence) -> bool| {
        let paid = scored.iter().flat_map(|scored| scored.evidence.iter().zip(&scored.paid));
        paid.filter(|(item, _)| wanted(item)).map(|(_, paid)| f64::from(*paid)).sum::<f64>() / answers
    };
    let episodes = &experience.episodes;
    let flat = |part: fn(&Episode) -> &Vec<f32>| -> Vec<f32> {
        episodes.iter().flat_map(|e| part(e).clone()).collect()
    };

    let mut metrics = vec![
        ("reward_mean", rewards().sum::<f64>() / answers),
        ("reward_positive", rewards().filter(|reward| *reward > 0.0).sum::<f64>() / answers),
        ("reward_negative", rewards().filter(|reward| *reward < 0.0).sum::<f64>() / answers),
        ("failure_rate", share(scored.iter().filter(|scored| scored.failed).count())),
        ("evidence_share", share(scored.iter().filter(|scored| !scored.evidence.is_empty()).count())),
        ("rewarded_token_share", rewards().filter(|reward| *reward != 0.0).count() as f64 / tokens),
        ("reward_record", paid_by(&|item| item.origin == Origin::Record)),
        ("reward_related", paid_by(&|item| item.origin == Origin::Related)),
        ("reward_finding", paid_by(&|item| item.origin == Origin::Finding)),
        ("reward_quote", paid_by(&|item| item.origin == Origin::Quote)),
        (
            "reward_instance",
            scored.iter().map(|scored| f64::from(scored.outcome.instance)).sum::<f64>() / answers,
        ),
        ("unscored", (rollouts.len() - scored.len()) as f64),
        (
            "finished_share",
            rollouts.iter().filter(|rollout| rollout.finished).count() as f64 / rollouts.len() as f64,
        ),
        ("response_length", tokens / answers),
        ("kl_reference", experience.kl_token),
        ("kl_reference_answer", experience.kl_answer),
        ("entropy", experience.entropy),
        ("ratio_max", statistics.ratio_max),
        ("first_ratio_error", statistics.first_ratio_error),
        ("learning_rate", statistics.learning_rate),
        ("steps", statistics.steps as f64),
        ("stopped_early", f64::from(u8::from(statistics.stopped_early))),
    ];
    metrics.extend(Cheat::ALL.map(|cheat| {
        (cheat.metric(), share(scored.iter().filter(|scored| scored.cheats.contains(&cheat)).count()))
    }));
    let explained =
        explained_variance(&flat(|episode| &episode.old_values), &flat(|episode| &episode.returns));
    let optional = [
        ("policy_loss", statistics.policy_loss.value()),
        ("value_loss", statistics.value_loss.value()),
        ("clip_fraction", statistics.clipped.value()),
        ("kl_update", statistics.kl_update.value()),
        ("gradient_norm", statistics.gradient_norm.value()),
        ("value_gradient_norm", statistics.value_gradient_norm.value()),
        ("explained_variance", explained),
        ("sampling_difference", sampling_difference(rollouts, scores, episodes)),
    ];
    metrics.extend(optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
    metrics.extend(classes::metrics(episodes, &statistics.classes));
    metrics
}

/// Mean |log-prob of the sampler − log-prob of the training path| over the scored answers.
fn sampling_difference(rollouts: &[Rollout], scores: &[Score], episodes: &[Episode]) -> Option<f64> {
    let kept = rollouts.iter().zip(scores).filter(|(rollout, score)| {
        matches!(score, Score::Scored(_)) && rollout.ids.len() > rollout.prompt_length
    });
    let differences: Vec<f64> = kept
        .zip(episodes)
        .flat_map(|((rollout, _), episode)| rollout.log_probs.iter().zip(&episode.old_log_prob))
        .map(|(sampler, training)| (f64::from(*sampler) - f64::from(*training)).abs())
        .collect();
    (!differences.is_empty()).then(|| differences.iter().sum::<f64>() / differences.len() as f64)
}

#[cfg(test)]
mod tests;
