//! Training on a device gives the processor's numbers: SFT, next-token training and PPO through the GPU's engine, on the emulator.
#![cfg(feature = "emulator")]

mod tiny;

use std::collections::BTreeMap;

use vul2safe_model::{Device, Model, Placement, Precision};
use vul2safe_reward::{Score, Scored};
use vul2safe_train::{
    Checkpoint, Control, Example, OptimizerConfig, PpoConfig, PpoPrompt, PpoState, PretrainConfig, Rollout,
    SftConfig, TrainError, TrainSummary, ValueConfig, ppo, ppo_from, pretrain_from, sft_from, update_on,
};

const EXACT: Placement = Placement { device: Device::Emulator, precision: Precision::Float32, frozen: false };
const HALF: Placement = Placement { precision: Precision::Bfloat16, ..EXACT };

fn optimizer() -> OptimizerConfig {
    OptimizerConfig { learning_rate: 3e-3, warmup_steps: 2, ..OptimizerConfig::default() }
}

/// A model, on the processor.
fn model(adapter: bool) -> Model {
    let base = tiny::model(1);
    if adapter { tiny::adapted(&base, 0.0) } else { base }
}

/// Everything that is trained, by name.
fn weights(model: &Model) -> BTreeMap<String, Vec<f32>> {
    let trainable = model.trainable();
    let shapes = trainable.shapes().into_iter().enumerate();
    shapes.map(|(place, (name, _))| (name, trainable.read(place).unwrap().to_vec())).collect()
}

/// How far `got` has moved away from `want`, as a share of how far `want` has moved from `before`.
fn apart(
    got: &BTreeMap<String, Vec<f32>>,
    want: &BTreeMap<String, Vec<f32>>,
    before: &BTreeMap<String, Vec<f32>>,
) -> f64 {
    let squares = |one: &BTreeMap<String, Vec<f32>>, other: &BTreeMap<String, Vec<f32>>| -> f64 {
        assert!(one.keys().eq(other.keys()));
        // A key's bias has no gradient but rounding, which Adam makes as large as any.
        let pairs = one.iter().zip(other.values()).filter(|((name, _), _)| !name.ends_with("k_proj.bias"));
        let numbers = pairs.flat_map(|((_, one), other)| one.iter().zip(other));
        numbers.map(|(one, other)| f64::from(one - other).powi(2)).sum()
    };
    let moved = squares(want, before);
    assert!(moved > 0.0, "nothing moved");
    (squares(got, want) / moved).sqrt()
}

fn ids(index: u32) -> Vec<u32> {
    (0..9 + 3 * index).map(|at| (at * 7 + index * 31) % 250).collect()
}

fn train(
    model: &Model,
    whole: bool,
    checkpoint: Option<&Checkpoint>,
    kill: u64,
) -> Result<TrainSummary, TrainError> {
    let log = &mut |step: u64, _: &[(&str, f64)]| if step == kill { Err("killed".into()) } else { Ok(()) };
    let (epochs, maximum_steps) = (4, Some(6));
    if whole {
        let config = PretrainConfig {
            optimizer: optimizer(),
            epochs,
            maximum_steps,
            tokens_per_batch: 60,
            tokens_per_microbatch: 25,
            ..PretrainConfig::default()
        };
        let documents: Vec<Vec<u32>> = (0..6).map(ids).collect();
        return pretrain_from(model, &documents, &config, checkpoint, log);
    }
    let config = SftConfig {
        optimizer: optimizer(),
        epochs,
        maximum_steps,
        tokens_per_batch: 60,
        tokens_per_microbatch: 25,
        gradient_checkpointing: true,
        ..SftConfig::default()
    };
    let examples: Vec<Example> = (0..6)
        .map(|index| Example {
            prompt: ids(index)[..4].to_vec(),
            completion: ids(index)[4..].to_vec(),
            weights: None,
        })
        .collect();
    sft_from(model, &examples, &config, checkpoint, log)
}

#[test]
fn training_on_texts_moves_the_weights_where_the_processor_moves_them() {
    for adapter in [false, true] {
        for whole in [false, true] {
            let host = model(adapter);
            let device = host.placed(EXACT).unwrap();
            let before = weights(&host);
            assert_eq!(weights(&device), before);
            let want = train(&host, whole, None, u64::MAX).unwrap();
            let got = train(&device, whole, None, u64::MAX).unwrap();
            assert_eq!((got.steps, got.tokens, got.skipped), (want.steps, want.tokens, want.skipped));
            assert!((got.first_loss / want.first_loss - 1.0).abs() < 1e-5, "{got:?} {want:?}");
            assert!((got.last_loss / want.last_loss - 1.0).abs() < 1e-3, "{got:?} {want:?}");
            let off = apart(&weights(&device), &weights(&host), &before);
            println!("adapter {adapter}, whole {whole}: {off:.1e} of the way");
            assert!(off < 0.03, "{off}");
            // What was learned is what is saved.
            let folder = tempfile::tempdir().unwrap();
            if !adapter {
                device.save(folder.path()).unwrap();
                assert_eq!(weights(&Model::load(folder.path()).unwrap()), weights(&device));
            }
        }
    }
}

#[test]
fn a_resumed_training_equals_an_unbroken_one_to_the_bit() {
    for (placement, adapter) in [(EXACT, false), (HALF, false), (HALF, true)] {
        let start = || model(adapter).placed(placement).unwrap();
        let unbroken = start();
        train(&unbroken, false, None, u64::MAX).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(folder.path().join("state"), 2);
        assert_eq!(train(&start(), false, Some(&checkpoint), 4).unwrap_err().to_string(), "killed");
        // The processor's engine and the other precision give other bits: they do not go on with it.
        for other in
            [model(adapter), model(adapter).placed(if placement == HALF { EXACT } else { HALF }).unwrap()]
        {
            let error = train(&other, false, Some(&checkpoint), u64::MAX).unwrap_err();
            assert!(matches!(error, TrainError::OtherCheckpoint { .. }), "{error}");
            assert!(error.to_string().contains("computed: on a GPU"), "{error}");
        }
        let resumed = start();
        train(&resumed, false, Some(&checkpoint), u64::MAX).unwrap();
        assert!(weights(&resumed) == weights(&unbroken), "{placement:?}, adapter {adapter}");
    }
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let device = model(false).placed(EXACT).unwrap();
    let trainable = device.trainable();
    let place = trainable.shapes().iter().position(|(name, _)| name == "model.norm.weight").unwrap();
    trainable.write(place, &[f32::NAN; 32]).unwrap();
    let error = train(&device, false, None, u64::MAX).unwrap_err();
    assert!(error.to_string().contains("number 0 of model.norm.weight"), "{error}");
}

/// +1 for ids below 60, −1 above 199.
fn by_id(rollouts: &[Rollout]) -> Vec<Score> {
    let reward = |id: &u32| f32::from(u8::from(*id < 60)) - f32::from(u8::from(*id > 199));
    let score = |rollout: &Rollout| {
        let rewards: Vec<f32> = rollout.response().iter().map(reward).collect();
        let (total, reasons) = (rewards.iter().sum(), vec![Vec::new(); rewards.len()]);
        Score::Scored(Scored { rewards, reasons, total, ..Scored::default() })
    };
    rollouts.iter().map(score).collect()
}

fn ppo_config() -> PpoConfig {
    PpoConfig {
        updates: 3,
        rollouts_per_update: 6,
        maximum_new_tokens: 6,
        tokens_per_microbatch: 30,
        optimizer: optimizer(),
        entropy_coefficient: 0.01,
        value: ValueConfig { width: 4, gradient_to_trunk: true, ..ValueConfig::default() },
        stop_ids: vec![2],
        seed: 11,
        ..PpoConfig::default()
    }
}

fn prompts() -> Vec<PpoPrompt> {
    (0..5)
        .map(|index| PpoPrompt { id: format!("p{index}"), ids: vec![210 + index, 220, 230 + index] })
        .collect()
}

/// The actor and a reference of its own.
fn actor_and_reference(adapter: bool, placement: Option<Placement>) -> (Model, Model) {
    let place = |model: Model| match placement {
        Some(placement) => model.placed(placement).unwrap(),
        None => model,
    };
    let actor = place(model(adapter));
    let reference = if adapter { actor.without_adapter().unwrap() } else { place(model(false)) };
    (actor, reference)
}

#[test]
fn a_ppo_update_moves_the_weights_where_the_processor_moves_them() {
    for adapter in [false, true] {
        let config = ppo_config();
        let run = |placement| {
            let (actor, reference) = actor_and_reference(adapter, placement);
            let before = weights(&actor);
            let rollouts: Vec<Rollout> = (0..6)
                .map(|index| {
                    let ids: Vec<u32> = ids(index)[..8].to_vec();
                    Rollout { prompt: 0, ids, prompt_length: 3, log_probs: vec![-1.0; 5], finished: true }
                })
                .collect();
            let mut state = PpoState::new(&actor, &config).unwrap();
            let scores = by_id(&rollouts);
            let mut metrics = BTreeMap::new();
            for _ in 0..2 {
                metrics = update_on(&mut state, &actor, &reference, &rollouts, &scores, &config)
                    .unwrap()
                    .into_iter()
                    .collect::<BTreeMap<&str, f64>>();
                assert_eq!(metrics["first_ratio_error"], 0.0);
            }
            (before, weights(&actor), metrics)
        };
        let ((before, want, wanted), (_, got, metrics)) = (run(None), run(Some(EXACT)));
        let off = apart(&got, &want, &before);
        println!("adapter {adapter}: {off:.1e} of the way");
        assert!(off < 0.03, "{off}");
        for name in
            ["policy_loss", "value_loss", "entropy", "kl_reference", "gradient_norm", "value_gradient_norm"]
        {
            let (got, want) = (metrics[name], wanted[name]);
            assert!((got - want).abs() <= 2e-3 * want.abs().max(1e-3), "{name}: {got}, not {want}");
        }
    }
}

#[test]
fn ppo_samples_on_the_device_and_resumes_to_the_bit() {
    for (placement, adapter) in [(EXACT, false), (HALF, true)] {
        let config = ppo_config();
        let unbroken = {
            let (actor, reference) = actor_and_reference(adapter, Some(placement));
            let before = weights(&reference);
            ppo(&actor, &reference, &prompts(), &config, &mut by_id, &mut |event| {
                let metric = |name| event.metrics.iter().find(|(known, _)| *known == name).unwrap().1;
                assert_eq!(metric("first_ratio_error"), 0.0);
                // The sampler is the training path but for the order of sums.
                let tolerance = if placement == EXACT { 1e-4 } else { 3e-2 };
                assert!(metric("sampling_difference") < tolerance, "{}", metric("sampling_difference"));
                Ok(Control::Continue)
            })
            .unwrap();
            assert!(weights(&reference) == before, "the reference moved");
            weights(&actor)
        };
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("ppo");
        let (actor, reference) = actor_and_reference(adapter, Some(placement));
        ppo(&actor, &reference, &prompts(), &config, &mut by_id, &mut |event| {
            event.state.save(&checkpoint, event.actor)?;
            Ok(if event.update == 1 { Control::Stop } else { Control::Continue })
        })
        .unwrap();
        drop(actor);
        let (actor, mut state) = PpoState::load(&checkpoint, &config, Some(&reference)).unwrap().unwrap();
        assert_eq!(actor.placement().device, Device::Emulator);
        let mut go_on = |_: vul2safe_train::PpoEvent<'_>| Ok(Control::Continue);
        ppo_from(&mut state, &actor, &reference, &prompts(), &config, &mut by_id, &mut go_on).unwrap();
        assert!(weights(&actor) == unbroken, "{placement:?}, adapter {adapter}");
        // On the processor it is refused by name.
        let (_, host) = actor_and_reference(adapter, None);
        let error = PpoState::load(&checkpoint, &config, Some(&host)).unwrap_err();
        assert!(error.to_string().contains("computed: on a GPU"), "{error}");
    }
}
