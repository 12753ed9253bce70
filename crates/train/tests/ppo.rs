//! PPO on a tiny model with a reward that can be read off the ids.

mod tiny;

use std::collections::BTreeMap;

use vul2safe_model::Model;
use vul2safe_reward::{Score, Scored};
use vul2safe_train::{
    Control, KlConfig, KlPlacement, OptimizerConfig, PpoConfig, PpoPrompt, PpoState, Rollout, Schedule,
    Scorer, TrainError, ValueConfig, math::KlEstimator, ppo, ppo_from, update_on,
};

fn scored(rewards: Vec<f32>) -> Score {
    let total = rewards.iter().sum();
    let reasons = vec![Vec::new(); rewards.len()];
    Score::Scored(Scored { rewards, reasons, total, ..Scored::default() })
}

/// +1 for ids below 20, −1 for ids from 100 to 199, where they stand.
fn by_id(rollouts: &[Rollout]) -> Vec<Score> {
    let reward = |id: &u32| match id {
        0..20 => 1.0,
        100..200 => -1.0,
        _ => 0.0,
    };
    rollouts.iter().map(|rollout| scored(rollout.response().iter().map(reward).collect())).collect()
}

fn prompts() -> Vec<PpoPrompt> {
    (0..5)
        .map(|index| PpoPrompt { id: format!("p{index}"), ids: vec![210 + index, 220, 230 + index] })
        .collect()
}

fn config() -> PpoConfig {
    PpoConfig {
        updates: 6,
        rollouts_per_update: 16,
        maximum_new_tokens: 8,
        optimizer: OptimizerConfig {
            learning_rate: 1e-2,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            weight_decay: 0.0,
            ..Default::default()
        },
        value: ValueConfig { width: 8, learning_rate: 1e-2, ..ValueConfig::default() },
        kl: KlConfig { coefficient: 0.001, ..KlConfig::default() },
        stop_ids: vec![2],
        lambda: 0.5,
        seed: 11,
        ..PpoConfig::default()
    }
}

type Metrics = BTreeMap<&'static str, f64>;

/// Runs PPO from a fresh model and returns it with the metrics of every update.
fn run(config: &PpoConfig) -> (Model, Vec<Metrics>) {
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let mut all = Vec::new();
    ppo(&actor, &reference, &prompts(), config, &mut by_id, &mut |event| {
        all.push(event.metrics.iter().copied().collect());
        Ok(Control::Continue)
    })
    .unwrap();
    assert_eq!(tiny::weights(&reference), tiny::weights(&tiny::model(3)), "the reference moved");
    (actor, all)
}

#[test]
fn token_rewards_are_learned() {
    let (_, metrics) = run(&PpoConfig { updates: 12, ..config() });
    let (first, last) = (&metrics[0], &metrics[11]);
    assert!(
        last["reward_mean"] > first["reward_mean"] + 2.0,
        "{} → {}",
        first["reward_mean"],
        last["reward_mean"]
    );
    assert!(last["reward_positive"] > 2.0 * first["reward_positive"]);
    assert!(last["reward_negative"] > first["reward_negative"] / 2.0);
    assert!(first["kl_reference"].abs() < 1e-5 && last["kl_reference"] > 0.01);
    for update in &metrics {
        assert_eq!(update["first_ratio_error"], 0.0);
        assert!(update["ratio_max"] > 1.0 && update["sampling_difference"] < 1e-4);
        assert!(update.values().all(|value| value.is_finite()), "{update:?}");
    }
}

#[test]
fn the_same_code_learns_from_one_number_on_the_last_token() {
    let config = PpoConfig { updates: 12, lambda: 1.0, ..config() };
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let mut means = Vec::new();
    let mut last_token = |rollouts: &[Rollout]| -> Vec<Score> {
        let scores = by_id(rollouts);
        let moved = scores.into_iter().map(|score| match score {
            Score::Scored(score) => {
                let mut rewards = vec![0.0; score.rewards.len()];
                *rewards.last_mut().unwrap() = score.total;
                scored(rewards)
            }
            unscored => unscored,
        });
        moved.collect()
    };
    ppo(&actor, &reference, &prompts(), &config, &mut last_token, &mut |event| {
        means
            .extend(event.metrics.iter().filter(|(name, _)| *name == "reward_mean").map(|(_, value)| *value));
        Ok(Control::Continue)
    })
    .unwrap();
    assert!(means[11] > means[0] + 1.0, "{means:?}");
}

#[test]
fn on_the_sampling_policy_every_ratio_is_exactly_one() {
    let (_, metrics) =
        run(&PpoConfig { epochs: 1, minibatches: 1, updates: 2, tokens_per_microbatch: 40, ..config() });
    for update in metrics {
        assert_eq!((update["ratio_max"], update["clip_fraction"], update["kl_update"]), (1.0, 0.0, 0.0));
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let short = PpoConfig { updates: 2, ..config() };
    let weights = |config: &PpoConfig| tiny::weights(&run(config).0);
    assert_eq!(weights(&short), weights(&short));
    assert_ne!(weights(&short), weights(&PpoConfig { seed: 12, ..short.clone() }));
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_to_the_bit() {
    let adaptive = vul2safe_train::math::AdaptiveKl { target: 0.05, horizon: 50.0 };
    let config =
        PpoConfig { updates: 4, kl: KlConfig { adaptive: Some(adaptive), ..config().kl }, ..config() };
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("ppo");
    assert!(PpoState::load(&checkpoint, &config, None).unwrap().is_none());

    let (whole, metrics) = run(&config);
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let summary = ppo(&actor, &reference, &prompts(), &config, &mut by_id, &mut |event| {
        event.state.save(&checkpoint, event.actor)?;
        Ok(if event.update == 1 { Control::Stop } else { Control::Continue })
    })
    .unwrap();
    assert!(summary.stopped && summary.updates == 2);
    drop(actor);

    // As after a kill between the two renames of a save.
    std::fs::rename(&checkpoint, folder.path().join("ppo.previous")).unwrap();
    let (actor, mut state) = PpoState::load(&checkpoint, &config, None).unwrap().unwrap();
    assert_eq!(state.update(), 2);
    let mut after = Vec::new();
    let summary = ppo_from(&mut state, &actor, &reference, &prompts(), &config, &mut by_id, &mut |event| {
        after.push(event.metrics.iter().copied().collect::<Metrics>());
        event.state.save(&checkpoint, event.actor)?;
        Ok(Control::Continue)
    })
    .unwrap();
    assert_eq!((summary.updates, summary.rollouts), (4, 64));
    assert_eq!(tiny::weights(&actor), tiny::weights(&whole));
    for (resumed, whole) in after.iter().zip(&metrics[2..]) {
        let without_time = |metrics: &Metrics| -> Metrics {
            metrics
                .iter()
                .filter(|(name, _)| !name.starts_with("seconds"))
                .map(|(name, value)| (*name, *value))
                .collect()
        };
        assert_eq!(without_time(resumed), without_time(whole));
    }

    // A checkpoint cut short is refused with its name.
    for file in
        ["state.json", "value_head.safetensors", "actor_optimizer.safetensors", "value_optimizer.safetensors"]
    {
        let path = checkpoint.join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = PpoState::load(&checkpoint, &config, None).unwrap_err();
        assert!(error.to_string().contains(file) && error.hint().is_some(), "{error}");
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(PpoState::load(&checkpoint, &config, None).is_ok());

    // Nothing is left of a checkpoint that is removed, and removing none is no error.
    std::fs::create_dir(folder.path().join("ppo.previous")).unwrap();
    PpoState::remove(&checkpoint).unwrap();
    PpoState::remove(&checkpoint).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn unscored_answers_are_left_out_and_too_many_are_an_error() {
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let lose = |count: usize| {
        move |rollouts: &[Rollout]| -> Vec<Score> {
            let mut scores = by_id(rollouts);
            scores
                .iter_mut()
                .take(count)
                .for_each(|score| *score = Score::Unscored { why: "no sandbox".into() });
            scores
        }
    };
    let config = PpoConfig { updates: 1, maximum_unscored_share: 0.25, ..config() };
    let mut unscored = None;
    let summary = ppo(&actor, &reference, &prompts(), &config, &mut lose(4), &mut |event| {
        unscored = event.metrics.iter().find(|(name, _)| *name == "unscored").map(|(_, value)| *value);
        let (rollouts, scores) = event.samples.expect("the last update hands out its answers");
        assert_eq!((rollouts.len(), scores.len()), (16, 16));
        Ok(Control::Continue)
    })
    .unwrap();
    assert_eq!((summary.rollouts, summary.unscored, unscored), (12, 4, Some(4.0)));

    let before = tiny::weights(&actor);
    let error = ppo(&actor, &reference, &prompts(), &config, &mut lose(5), &mut |_| Ok(Control::Continue))
        .unwrap_err();
    assert!(matches!(error, TrainError::TooManyUnscored { unscored: 5, of: 16, .. }), "{error}");
    assert!(error.to_string().contains("no sandbox"));
    assert_eq!(tiny::weights(&actor), before);
}

/// Notes what it is told of while answers are sampled.
#[derive(Default)]
struct Early {
    begun: Vec<(usize, Rollout)>,
    updates: usize,
}

impl Scorer for Early {
    fn begin(&mut self, place: usize, rollout: &Rollout) {
        self.begun.push((place, rollout.clone()));
    }

    fn finish(&mut self, rollouts: &[Rollout]) -> Vec<Score> {
        let places: Vec<usize> = self.begun.iter().map(|(place, _)| *place).collect();
        assert!(!places.is_sorted(), "short answers come before those that were begun earlier: {places:?}");
        self.begun.sort_by_key(|(place, _)| *place);
        let told: Vec<Rollout> = std::mem::take(&mut self.begun).into_iter().map(|(_, told)| told).collect();
        assert_eq!(told, rollouts, "every answer once, as it is in the end");
        self.updates += 1;
        by_id(rollouts)
    }
}

#[test]
fn a_scorer_can_begin_while_others_are_sampled_and_changes_nothing_by_it() {
    let after = |scorer: &mut dyn Scorer| {
        let (actor, reference) = (tiny::model(3), tiny::model(3));
        // A few of the 260 ids end an answer, so that answers differ in length.
        let config = PpoConfig { stop_ids: (0..12).collect(), ..config() };
        ppo(&actor, &reference, &prompts(), &config, scorer, &mut |_| Ok(Control::Continue)).unwrap();
        tiny::weights(&actor)
    };
    let mut early = Early::default();
    assert_eq!(after(&mut early), after(&mut by_id));
    assert!(early.updates > 0);
}

#[test]
fn wrong_scores_are_refused_before_anything_moves() {
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let go = |scorer: &mut dyn FnMut(&[Rollout]) -> Vec<Score>| {
        let mut scorer = |rollouts: &[Rollout]| scorer(rollouts);
        ppo(&actor, &reference, &prompts(), &config(), &mut scorer, &mut |_| Ok(Control::Continue))
            .unwrap_err()
    };
    let error = go(&mut |rollouts| by_id(&rollouts[1..]));
    assert!(
        matches!(error, TrainError::ScoreShape { what: "scores", expected: 16, found: 15, .. }),
        "{error}"
    );
    let error = go(&mut |rollouts| rollouts.iter().map(|_| scored(vec![0.0; 99])).collect());
    assert!(matches!(error, TrainError::ScoreShape { what: "token rewards", found: 99, .. }), "{error}");
    let nan = |rollout: &Rollout| scored(vec![f32::NAN; rollout.response().len()]);
    let error = go(&mut |rollouts| rollouts.iter().map(nan).collect());
    assert!(matches!(error, TrainError::NotFinite { step: 0, .. }), "{error}");
    assert_eq!(tiny::weights(&actor), tiny::weights(&tiny::model(3)));
}

#[test]
fn collapse_and_settings_stop_with_a_name() {
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let go = |config: PpoConfig, prompts: &[PpoPrompt]| {
        ppo(&actor, &reference, prompts, &config, &mut by_id, &mut |_| Ok(Control::Continue)).unwrap_err()
    };
    // 260 ids have at most ln 260 = 5.56 nats.
    let error = go(PpoConfig { minimum_entropy: 6.0, ..config() }, &prompts());
    assert!(matches!(error, TrainError::Collapsed { update: 0, .. }) && error.hint().is_some(), "{error}");
    assert!(go(PpoConfig { lambda: 1.5, ..config() }, &prompts()).to_string().contains("`lambda`"));
    assert!(go(PpoConfig { minibatches: 0, ..config() }, &prompts()).to_string().contains("`minibatches`"));
    // 16 answers with a horizon of 3 could turn κ negative.
    let adaptive = Some(vul2safe_train::math::AdaptiveKl { target: 1.0, horizon: 3.0 });
    let short = PpoConfig { kl: KlConfig { adaptive, ..config().kl }, ..config() };
    assert!(go(short, &prompts()).to_string().contains("`kl.adaptive`"));
    assert!(matches!(go(config(), &[]), TrainError::NoData { stage: "ppo", .. }));
    let empty = [PpoPrompt { id: "nothing".into(), ids: vec![] }];
    assert!(go(config(), &empty).to_string().contains("nothing"));
    assert!(serde_json::from_str::<PpoConfig>(r#"{"lamda": 1.0}"#).is_err());
    let parsed: PpoConfig =
        serde_json::from_str(r#"{"kl": {"placement": "loss", "estimator": "k3"}}"#).unwrap();
    assert_eq!((parsed.kl.placement, parsed.kl.estimator), (KlPlacement::Loss, KlEstimator::K3));
}

#[test]
fn a_strong_divergence_penalty_in_reward_or_loss_holds_the_policy_back() {
    let divergence = |kl: KlConfig| {
        let (_, metrics) = run(&PpoConfig { updates: 5, kl, ..config() });
        metrics[4]["kl_reference_answer"]
    };
    let free = divergence(KlConfig { placement: KlPlacement::Off, ..KlConfig::default() });
    let in_reward = divergence(KlConfig { coefficient: 3.0, ..KlConfig::default() });
    let in_loss =
        divergence(KlConfig { placement: KlPlacement::Loss, coefficient: 3.0, ..KlConfig::default() });
    assert!(
        in_reward < 0.7 * free && in_loss < 0.7 * free,
        "free {free}, reward {in_reward}, loss {in_loss}"
    );
}

#[test]
fn a_small_target_divergence_cuts_updates_short() {
    let (_, metrics) = run(&PpoConfig { updates: 2, epochs: 4, target_kl: 1e-4, ..config() });
    assert!(metrics.iter().all(|update| update["stopped_early"] == 1.0 && update["steps"] < 8.0));
}

#[test]
fn the_entropy_bonus_keeps_entropy_up() {
    let entropy =
        |entropy_coefficient| run(&PpoConfig { updates: 6, entropy_coefficient, ..config() }).1[5]["entropy"];
    assert!(entropy(0.5) > entropy(0.0));
}

/// Four answers as a sampler elsewhere may have made them.
fn given() -> (Vec<Rollout>, Vec<Score>) {
    let rollouts: Vec<Rollout> = (0..4u32)
        .map(|index| {
            let ids: Vec<u32> = (0..9 + index).map(|at| (at * 31 + index * 57) % 250).collect();
            let log_probs = vec![-5.0; ids.len() - 3];
            Rollout { prompt: 0, ids, prompt_length: 3, log_probs, finished: true }
        })
        .collect();
    let scores = by_id(&rollouts);
    (rollouts, scores)
}

#[test]
fn an_update_on_given_answers_trains_and_counts() {
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let config = config();
    let mut state = PpoState::new(&actor, &config).unwrap();
    let (rollouts, scores) = given();
    let metrics: Metrics =
        update_on(&mut state, &actor, &reference, &rollouts, &scores, &config).unwrap().into_iter().collect();
    assert_eq!((state.update(), metrics["steps"], metrics["first_ratio_error"]), (1, 4.0, 0.0));
    assert!(metrics["seconds_old"] + metrics["seconds_reference"] < metrics["seconds_update"]);
    assert_ne!(tiny::weights(&actor), tiny::weights(&reference));
    for prompt_length in [0, 99] {
        let broken: Vec<Rollout> =
            rollouts.iter().map(|rollout| Rollout { prompt_length, ..rollout.clone() }).collect();
        let error = update_on(&mut state, &actor, &reference, &broken, &scores, &config).unwrap_err();
        assert!(matches!(error, TrainError::NoData { .. }), "{error}");
    }
    assert_eq!(state.update(), 1);
}

#[test]
fn a_poisoned_weight_is_named_and_nothing_moves() {
    let (actor, reference) = (tiny::model(3), tiny::model(3));
    let config = config();
    let (rollouts, scores) = given();
    for place in [1, 3] {
        let poisoned = &actor.parameters()[place];
        let (good, mut numbers) = (poisoned.numbers(), poisoned.numbers());
        numbers[5] = f32::NAN;
        poisoned.set(&numbers).unwrap();
        let mut state = PpoState::new(&actor, &config).unwrap();
        let error = update_on(&mut state, &actor, &reference, &rollouts, &scores, &config).unwrap_err();
        let named = format!("number 5 of {}", poisoned.name());
        assert!(matches!(error, TrainError::NotFinite { step: 0, .. }), "{error}");
        assert!(error.to_string().contains(&named) && error.hint().is_some(), "{error}");
        assert_eq!(state.update(), 0);
        poisoned.set(&good).unwrap();
        assert_eq!(tiny::weights(&actor), tiny::weights(&reference));
    }
}
