//! PPO and GRPO arms.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vul2safe_corpus::{RepairPair, read_primevul_plus};
use vul2safe_reward::{RewardConfig, Score, apply_control};
use vul2safe_run::{Sample, write_samples};
use vul2safe_train::{
    CallbackError, Control, PpoConfig, PpoEvent, PpoPrompt, PpoState, PpoSummary, Rollout, ppo_from,
};

use super::data::{start, training_pairs};
use super::requests::{Request, harmless_items, of_items, of_pairs};
use super::validation::Validation;
use crate::failure::Result;
use crate::recipe::{ArmConfig, ArmSettings};
use crate::scoring::{AnswerText, Judged, References, Target, score_until};
use crate::stages::base::save_model;
use crate::stages::evaluate::{Outcomes, make_sample};
use crate::stages::prompts::answer_text;
use crate::stages::{Context, Purpose, build, derive_seed};

pub(super) fn run(
    context: &Context<'_>,
    name: &str,
    arm: &ArmConfig,
    settings: &ArmSettings,
) -> Result<Value> {
    let recipe = context.recipe;
    // With an adapter the reference shares the base's memory with the actor, which gets matrices of its own.
    let (reference, tokenizer) = start(context)?;
    let train = training_pairs(context, name, arm)?;
    let train: Vec<&RepairPair> = train.iter().collect();

    let reward = settings.reward;
    let config = PpoConfig {
        stop_ids: tokenizer.stop_ids(),
        sample_every: recipe.ppo.samples_every,
        // Every arm draws the same prompts, so that only placement differs.
        seed: context.seed_for("ppo", settings.ppo.seed),
        ..settings.ppo.clone()
    };
    let positions = reference.config().max_position_embeddings;
    let longest = recipe.ppo.maximum_prompt_tokens.min(positions.saturating_sub(config.maximum_new_tokens));
    let (mut requests, mut too_long) = of_pairs(&train, &tokenizer, longest)?;
    let items = harmless_items(recipe, settings.harmless_share)?;
    let (harmless, longer) = of_items(&items, settings.harmless_share, requests.len(), &tokenizer, longest)?;
    requests.extend(harmless);
    too_long += longer;
    let references = References::new(train.iter().copied(), reward.related_patterns)?;
    let prompts: Vec<PpoPrompt> = requests
        .iter()
        .map(|request| PpoPrompt { id: request.id.clone(), ids: request.ids.clone() })
        .collect();
    let targets: Vec<Target<'_>> =
        requests.iter().map(|request| request.target(&references, &items)).collect::<Result<_>>()?;

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
    let pairs = read_primevul_plus(&context.run.file(build::PAIRS))?;
    let mut validation = Validation::open(context, name, &pairs, state.update())?;
    if state.update() == 0 && validation.is_due(0, config.updates as u64) {
        validation.measure(&actor, &tokenizer, 0, 0)?;
    }
    // Written by the scorer, read by the observer right after it.
    let functional: RefCell<Vec<Option<bool>>> = RefCell::default();
    let of_harmless: Cell<Option<f64>> = Cell::default();
    let mut scored_updates = state.update();
    let mut score = |rollouts: &[Rollout]| -> Vec<Score> {
        let answers: Vec<AnswerText> = rollouts
            .iter()
            .map(|rollout| answer_text(&tokenizer, rollout.response(), rollout.finished))
            .collect();
        let judged = score_rollouts(&answers, rollouts, &targets, context, &reward);
        functional.replace(judged.iter().map(|one| one.functional).collect());
        of_harmless.set(harmless_functional(&judged, rollouts, &targets));
        let mut scores: Vec<Score> = judged.into_iter().map(|one| one.score).collect();
        // What is moved about is the evidence of one update; a resumed run draws the same.
        let seed = derive_seed(context.seed("control"), &scored_updates.to_string());
        scored_updates += 1;
        let codes: Vec<AnswerText> = answers
            .into_iter()
            .zip(rollouts)
            .map(|(answer, rollout)| answer.code(targets[rollout.prompt].language()).unwrap_or(answer))
            .collect();
        let texts: Vec<(&[(usize, usize)], &str)> =
            codes.iter().map(|code| (code.tokens.as_slice(), code.text.as_str())).collect();
        apply_control(arm.control, &texts, &mut scores, &reward, seed);
        scores
    };
    let mut observe = |event: PpoEvent<'_>| -> std::result::Result<Control, CallbackError> {
        let done = event.update + 1;
        let mut values = event.metrics.to_vec();
        values.extend(of_harmless.get().map(|share| ("harmless_functional", share)));
        if validation.is_due(done, event.updates) {
            let rollouts = event.state.rollouts();
            values.extend(validation.measure(event.actor, &tokenizer, done, rollouts)?);
        }
        metrics.log(event.update, &values)?;
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
                        &request.id,
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
    match (recipe.ppo.validation.take_best, validation.best()) {
        (true, Some(best)) if best.update < state.update() => {
            context.progress.say(&format!("  the best checkpoint is the one after update {}", best.update));
            let (best, _) = context.open(&validation.best_folder(), Purpose::Answer)?;
            save_model(context, &best, &tokenizer, &folder)?;
        }
        _ => save_model(context, &actor, &tokenizer, &folder)?,
    }
    describe(context, &summary, &requests, too_long, &references)
}

/// Where an arm in training is kept to continue from.
pub(super) fn training_checkpoint(context: &Context<'_>, name: &str) -> PathBuf {
    context.run.file(&format!("checkpoints/{name}-training"))
}

fn score_rollouts(
    answers: &[AnswerText],
    rollouts: &[Rollout],
    targets: &[Target<'_>],
    context: &Context<'_>,
    reward: &RewardConfig,
) -> Vec<Judged> {
    let answers: Vec<(&AnswerText, Target<'_>)> =
        answers.iter().zip(rollouts).map(|(answer, rollout)| (answer, targets[rollout.prompt])).collect();
    let seconds = context.recipe.ppo.scoring_seconds;
    let deadline = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds));
    score_until(&answers, &context.judge, reward, deadline)
}

/// Share of the scored answers to harmless requests whose tests pass; nothing where there are none.
fn harmless_functional(judged: &[Judged], rollouts: &[Rollout], targets: &[Target<'_>]) -> Option<f64> {
    let passed: Vec<bool> = judged
        .iter()
        .zip(rollouts)
        .filter(|(_, rollout)| matches!(targets[rollout.prompt], Target::Harmless(_)))
        .filter_map(|(one, _)| one.functional)
        .collect();
    let share = passed.iter().filter(|&&passed| passed).count() as f64 / passed.len() as f64;
    (!passed.is_empty()).then_some(share)
}

/// A metric by name.
fn metric(metrics: &[(&'static str, f64)], name: &str) -> Option<f64> {
    metrics.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
}

fn describe(
    context: &Context<'_>,
    summary: &PpoSummary,
    requests: &[Request],
    too_long: usize,
    references: &References,
) -> Result<Value> {
    let last = |name: &str| metric(&summary.last, name);
    let evidence = last("evidence_share").unwrap_or(f64::NAN);
    // Where there is nothing to be found, its absence says nothing.
    let harmless = requests.iter().filter(|request| request.is_harmless()).count();
    let of_pairs = (requests.len() - harmless) as f64 / requests.len().max(1) as f64;
    if evidence < 0.2 * of_pairs {
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
        "prompts": requests.len(),
        "harmless_prompts": harmless,
        "prompts_too_long": too_long,
        "patterns_dropped": references.dropped_patterns,
    }))
}
