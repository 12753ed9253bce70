//! Stage 5: one PPO arm, from the SFT checkpoint.

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::{Value, json};
use vul2safe_corpus::{RepairPair, Split, read_primevul_plus};
use vul2safe_reward::{RewardConfig, Score};
use vul2safe_run::{Sample, write_samples};
use vul2safe_tokens::Tokenizer;
use vul2safe_train::{
    CallbackError, Control, PpoConfig, PpoEvent, PpoPrompt, PpoState, PpoSummary, Rollout, ppo_from,
};

use super::base::{save_model, with_adapter};
use super::evaluate::{Outcomes, make_sample};
use super::prompts::{answer_text, prompt_ids, request_text};
use super::{Context, Purpose, build};
use crate::failure::{Failure, Result};
use crate::scoring::{AnswerText, Judged, Reference, References, score_all};

/// A prompt to sample answers to, with what belongs to it.
struct Request {
    pair: String,
    text: String,
    ids: Vec<u32>,
}

/// The stage of the arm `name`.
pub fn run(context: &Context<'_>, name: &str) -> Result<Value> {
    let recipe = context.recipe;
    let arm = &recipe.arms[name];
    let start = context.model_folder(context.arm_start());
    let (reference, tokenizer) = context.open(&start, Purpose::Train)?;
    // With an adapter the reference shares the base's memory with the actor, which gets matrices of its own.
    let reference = with_adapter(context, reference)?;
    let pairs = read_primevul_plus(&context.run.file(build::PAIRS))?;
    let train: Vec<&RepairPair> = pairs.iter().filter(|pair| pair.split == Split::Train).collect();

    let reward = RewardConfig { placement: arm.placement, ..recipe.reward };
    reward.check()?;
    let config = PpoConfig {
        lambda: arm.lambda,
        stop_ids: tokenizer.stop_ids(),
        sample_every: recipe.ppo.samples_every,
        // Every arm draws the same prompts, so that only placement differs.
        seed: context.seed_for("ppo", recipe.ppo.training.seed),
        ..recipe.ppo.training.clone()
    };
    config.check()?;
    let positions = reference.config().max_position_embeddings;
    let longest = recipe.ppo.maximum_prompt_tokens.min(positions.saturating_sub(config.maximum_new_tokens));
    let (requests, too_long) = requests(&train, &tokenizer, longest)?;
    let references = References::new(train.iter().copied(), reward.related_patterns)?;
    let prompts: Vec<PpoPrompt> = requests
        .iter()
        .map(|request| PpoPrompt { id: request.pair.clone(), ids: request.ids.clone() })
        .collect();
    let referred: Vec<&Reference> = requests
        .iter()
        .map(|request| {
            references
                .get(&request.pair)
                .ok_or_else(|| Failure::program(format!("the pair `{}` has no reference", request.pair)))
        })
        .collect::<Result<_>>()?;

    let checkpoint = training_checkpoint(context, name);
    let (actor, mut state) = match PpoState::load(&checkpoint, &config, Some(&reference))? {
        Some((actor, state)) => {
            context.progress.say(&format!("  continuing after update {}", state.update()));
            (actor, state)
        }
        None => {
            let actor = reference.duplicate()?;
            let state = PpoState::new(&actor, &config)?;
            (actor, state)
        }
    };
    // On a device a copy that could be trained takes more than one that stays as it is.
    let reference = if recipe.device.is_cpu() || reference.lora().is_some() {
        reference
    } else {
        reference.placed(context.placement(Purpose::Answer))?
    };
    let mut metrics = context.run.metrics_from(name, state.update())?;
    // Written by the scorer, read by the observer right after it.
    let functional: RefCell<Vec<Option<bool>>> = RefCell::default();
    let mut score = |rollouts: &[Rollout]| -> Vec<Score> {
        let judged = score_rollouts(rollouts, &referred, &tokenizer, context, &reward);
        functional.replace(judged.iter().map(|one| one.functional).collect());
        judged.into_iter().map(|one| one.score).collect()
    };
    let mut observe = |event: PpoEvent<'_>| -> std::result::Result<Control, CallbackError> {
        metrics.log(event.update, event.metrics)?;
        let value = |name: &str| metric(event.metrics, name).unwrap_or(f64::NAN);
        let note =
            format!("reward {:+.3}  failed {:.0} %", value("reward_mean"), 100.0 * value("failure_rate"));
        context.progress.update(event.update + 1, event.updates, &note);
        if let Some((rollouts, scores)) = event.samples {
            let samples: Vec<Sample> = rollouts
                .iter()
                .zip(scores)
                .zip(functional.borrow().iter())
                .take(recipe.ppo.samples)
                .map(|((rollout, score), &functional)| {
                    let request = &requests[rollout.prompt];
                    let answer = answer_text(&tokenizer, rollout.response(), rollout.finished);
                    let outcomes = Outcomes { functional, secure: None };
                    make_sample(
                        name,
                        &request.pair,
                        &request.text,
                        rollout.response(),
                        &answer,
                        score,
                        outcomes,
                    )
                })
                .collect();
            write_samples(context.run, &format!("{name}-update-{:05}", event.update + 1), &samples)?;
        }
        let every = recipe.ppo.checkpoint_every;
        if every > 0 && (event.update + 1).is_multiple_of(every) {
            event.state.save(&checkpoint, event.actor)?;
        }
        Ok(Control::Continue)
    };
    let summary = ppo_from(&mut state, &actor, &reference, &prompts, &config, &mut score, &mut observe)?;
    let folder = context.model_folder(name);
    save_model(context, &actor, &tokenizer, &folder)?;
    describe(context, &summary, requests.len(), too_long, &references)
}

/// Where an arm in training is kept to continue from.
fn training_checkpoint(context: &Context<'_>, name: &str) -> PathBuf {
    context.run.file(&format!("checkpoints/{name}-training"))
}

/// Removes what the finished arm `name` no longer needs to continue from. Only once the journal has it as finished:
/// a kill half-way through would otherwise leave a checkpoint that is neither whole nor gone.
pub fn forget_training(context: &Context<'_>, name: &str) -> Result<()> {
    Ok(PpoState::remove(&training_checkpoint(context, name))?)
}

/// Prompts of the training pairs that fit, and the number of those that do not.
fn requests(train: &[&RepairPair], tokenizer: &Tokenizer, longest: usize) -> Result<(Vec<Request>, usize)> {
    let mut found = Vec::new();
    let mut too_long = 0;
    for pair in train {
        for (ids, prompt) in prompt_ids(tokenizer, pair)?.into_iter().zip(&pair.prompts) {
            if ids.len() > longest {
                too_long += 1;
            } else {
                found.push(Request { pair: pair.id.clone(), text: request_text(prompt), ids });
            }
        }
    }
    if found.is_empty() {
        return Err(Failure::user(format!("every one of the {too_long} prompts has more than {longest} tokens")).with_hint(
            "raise `ppo.maximum_prompt_tokens`, or lower `ppo.training.maximum_new_tokens`: both must fit the model's positions",
        ));
    }
    Ok((found, too_long))
}

fn score_rollouts(
    rollouts: &[Rollout],
    referred: &[&Reference],
    tokenizer: &Tokenizer,
    context: &Context<'_>,
    reward: &RewardConfig,
) -> Vec<Judged> {
    let answers: Vec<(AnswerText, &Reference)> = rollouts
        .iter()
        .map(|rollout| {
            let answer = answer_text(tokenizer, rollout.response(), rollout.finished);
            (answer, referred[rollout.prompt])
        })
        .collect();
    score_all(&answers, &context.judge, reward)
}

/// A metric by name.
fn metric(metrics: &[(&'static str, f64)], name: &str) -> Option<f64> {
    metrics.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
}

fn describe(
    context: &Context<'_>,
    summary: &PpoSummary,
    requests: usize,
    too_long: usize,
    references: &References,
) -> Result<Value> {
    let last = |name: &str| metric(&summary.last, name);
    let evidence = last("evidence_share").unwrap_or(f64::NAN);
    if evidence < 0.2 {
        context.progress.say(&format!(
            "  warning: only {:.0} % of the last update's answers held any evidence: the reward says little",
            100.0 * evidence
        ));
    }
    Ok(json!({
        "line": format!(
            "{} updates, {} rollouts, reward {:+.3}, failed {:.0} %, evidence in {:.0} % of answers",
            summary.updates,
            summary.rollouts,
            last("reward_mean").unwrap_or(f64::NAN),
            100.0 * last("failure_rate").unwrap_or(f64::NAN),
            100.0 * evidence,
        ),
        "updates": summary.updates,
        "rollouts": summary.rollouts,
        "unscored": summary.unscored,
        "prompts": requests,
        "prompts_too_long": too_long,
        "patterns_dropped": references.dropped_patterns,
    }))
}
