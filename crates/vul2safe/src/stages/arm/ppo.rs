//! PPO and GRPO arms.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vul2safe_corpus::{RepairPair, read_primevul_plus};
use vul2safe_reward::{Control as RewardControl, RewardConfig, Score, apply_control};
use vul2safe_run::{Sample, write_samples};
use vul2safe_tokens::Tokenizer;
use vul2safe_train::{
    CallbackError, Control, PpoConfig, PpoEvent, PpoPrompt, PpoState, PpoSummary, Rollout, Scorer,
    TrainError, ppo_from,
};

use super::COLLAPSED;
use super::data::{start, training_pairs};
use super::requests::{Request, harmless_items, of_items, of_pairs};
use super::validation::Validation;
use crate::failure::Result;
use crate::recipe::{ArmConfig, ArmSettings};
use crate::scoring::{AnswerText, Queue, References, Target, with_queue};
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
    let judged: RefCell<LastJudged> = RefCell::default();
    let first = state.update();
    let mut observe = |event: PpoEvent<'_>| -> std::result::Result<Control, CallbackError> {
        let done = event.update + 1;
        let mut values = event.metrics.to_vec();
        values.push(("seconds_score_answers", judged.borrow().seconds));
        values.extend(judged.borrow().harmless_functional.map(|share| ("harmless_functional", share)));
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
                .zip(judged.borrow().functional.iter())
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
    let outcome = with_queue(&context.judge, &reward, |queue| {
        let (tokenizer, targets, judged) = (&tokenizer, targets.as_slice(), &judged);
        let mut scorer = ArmScorer {
            context,
            tokenizer,
            targets,
            control: arm.control,
            reward: &reward,
            update: first,
            queue,
            judged,
        };
        ppo_from(&mut state, &actor, &reference, &prompts, &config, &mut scorer, &mut observe)
    })?;
    let summary = match outcome {
        Err(error) if context.keep_going && is_collapse(&error) => {
            // What came before it stays: the last good checkpoint, metrics, samples.
            let why = error.to_string();
            context.progress.say(&format!("  left out of the figures: {why}"));
            return Ok(json!({ "line": format!("collapsed: {why}"), COLLAPSED: why }));
        }
        outcome => outcome?,
    };
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

/// Whether training stopped because of what became of the policy, not because of the machine or the settings.
fn is_collapse(error: &TrainError) -> bool {
    matches!(error, TrainError::Collapsed { .. } | TrainError::Diverged { .. } | TrainError::NotFinite { .. })
}

/// Where an arm in training is kept to continue from.
pub(super) fn training_checkpoint(context: &Context<'_>, name: &str) -> PathBuf {
    context.run.file(&format!("checkpoints/{name}-training"))
}

/// What the last update's scoring told beside the scores.
#[derive(Default)]
struct LastJudged {
    /// Of each answer: what its functional tests said.
    functional: Vec<Option<bool>>,
    /// Of the answers to harmless requests: the share whose tests pass.
    harmless_functional: Option<f64>,
    /// Seconds that scoring took, summed over the answers.
    seconds: f64,
}

/// Scores the answers of an arm, each from the moment at which the sampler has finished it.
struct ArmScorer<'a, 'q, 'scope> {
    context: &'scope Context<'scope>,
    tokenizer: &'scope Tokenizer,
    /// By prompt.
    targets: &'scope [Target<'scope>],
    control: RewardControl,
    reward: &'scope RewardConfig,
    /// The update that is scored next.
    update: u64,
    queue: &'a mut Queue<'q, 'scope>,
    judged: &'a RefCell<LastJudged>,
}

impl Scorer for ArmScorer<'_, '_, '_> {
    fn begin(&mut self, place: usize, rollout: &Rollout) {
        let (ids, finished, tokenizer) = (rollout.response().to_vec(), rollout.finished, self.tokenizer);
        self.queue.submit(
            place,
            move || answer_text(tokenizer, &ids, finished),
            self.targets[rollout.prompt],
        );
    }

    fn finish(&mut self, rollouts: &[Rollout]) -> Vec<Score> {
        let seconds = self.context.recipe.ppo.scoring_seconds;
        let deadline = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds));
        let scored = self.queue.collect(deadline);
        let functional: Vec<Option<bool>> = scored.iter().map(|one| one.judged.functional).collect();
        self.judged.replace(LastJudged {
            harmless_functional: harmless_functional(&functional, rollouts, self.targets),
            functional,
            seconds: scored.iter().map(|one| one.time.as_secs_f64()).sum(),
        });
        let (answers, mut scores): (Vec<AnswerText>, Vec<Score>) =
            scored.into_iter().map(|one| (one.answer, one.judged.score)).unzip();
        // What is moved about is the evidence of one update; a resumed run draws the same.
        let seed = derive_seed(self.context.seed("control"), &self.update.to_string());
        self.update += 1;
        let codes: Vec<AnswerText> = answers
            .into_iter()
            .zip(rollouts)
            .map(|(answer, rollout)| answer.code(self.targets[rollout.prompt].language()).unwrap_or(answer))
            .collect();
        let texts: Vec<(&[(usize, usize)], &str)> =
            codes.iter().map(|code| (code.tokens.as_slice(), code.text.as_str())).collect();
        apply_control(self.control, &texts, &mut scores, self.reward, seed);
        scores
    }
}

/// Share of the scored answers to harmless requests whose tests pass; nothing where there are none.
fn harmless_functional(
    functional: &[Option<bool>],
    rollouts: &[Rollout],
    targets: &[Target<'_>],
) -> Option<f64> {
    let passed: Vec<bool> = functional
        .iter()
        .zip(rollouts)
        .filter(|(_, rollout)| matches!(targets[rollout.prompt], Target::Harmless(_)))
        .filter_map(|(passed, _)| *passed)
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
