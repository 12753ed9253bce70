//! Preference training, and unlearning.

use vul2safe_model::{Config, Model, Packed};
use vul2safe_train::{
    Example, OptimizerConfig, Preference, PreferenceConfig, SftConfig, TrainError, prefer, sft,
};

fn model() -> Model {
    Model::random(Config::new(64, 32, 48, 2, 4, 2), 3).unwrap()
}

/// Log-probability of the last token of a sequence.
fn last(model: &Model, ids: &[u32]) -> f32 {
    let row = ids.len() as u32 - 2;
    let target = ids[ids.len() - 1];
    model.score_detached(&Packed::new(&[ids]), &[row], &[target], 1.0).unwrap().0[0]
}

fn pairs() -> Vec<Preference> {
    (0..6u32)
        .map(|prompt| Preference {
            prompt: vec![1, prompt + 10],
            chosen: vec![30, 40, 31],
            rejected: vec![30, 50, 31],
            chosen_counts: vec![false, true, false],
            rejected_counts: vec![false, true, false],
        })
        .collect()
}

fn config() -> PreferenceConfig {
    PreferenceConfig {
        epochs: 8,
        pairs_per_batch: 3,
        optimizer: OptimizerConfig { learning_rate: 2e-3, warmup_steps: 0, ..OptimizerConfig::default() },
        ..PreferenceConfig::default()
    }
}

#[test]
fn the_chosen_token_gains_and_the_rejected_one_loses() {
    let (model, reference) = (model(), model());
    let before = (last(&model, &[1, 10, 30, 40]), last(&model, &[1, 10, 30, 50]));
    let mut seen: Vec<Vec<(String, f64)>> = Vec::new();
    let summary = prefer(&model, &reference, &pairs(), &config(), &mut |_, metrics| {
        seen.push(metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect());
        Ok(())
    })
    .unwrap();
    assert_eq!((summary.steps, seen.len()), (16, 16));
    // At the start policy and reference are the same.
    assert!((summary.first_loss - 2f64.ln()).abs() < 1e-6 && summary.last_loss < 0.69);
    let after = (last(&model, &[1, 10, 30, 40]), last(&model, &[1, 10, 30, 50]));
    assert!(after.0 > before.0 && after.1 < before.1, "{before:?} {after:?}");
    assert_eq!(last(&reference, &[1, 10, 30, 40]), before.0, "the reference stays");
}

#[test]
fn micro_batches_change_nothing() {
    let one = |tokens_per_microbatch| {
        let (model, reference) = (model(), model());
        let config = PreferenceConfig { tokens_per_microbatch, ..config() };
        prefer(&model, &reference, &pairs(), &config, &mut |_, _| Ok(())).unwrap();
        last(&model, &[1, 10, 30, 40])
    };
    assert!((one(1000) - one(10)).abs() < 1e-4, "{} {}", one(1000), one(10));
}

#[test]
fn pairs_that_say_nothing_are_refused() {
    let (model, reference) = (model(), model());
    let mut wrong = pairs();
    wrong[2].chosen_counts[1] = false;
    wrong[2].rejected_counts[1] = false;
    let error = prefer(&model, &reference, &wrong, &config(), &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(&error, TrainError::NoData { problem, .. } if problem.contains("pair 2")), "{error}");
    assert!(prefer(&model, &reference, &[], &config(), &mut |_, _| Ok(())).is_err());
    let still = PreferenceConfig { beta: 0.0, ..config() };
    assert!(prefer(&model, &reference, &pairs(), &still, &mut |_, _| Ok(())).is_err());
}

#[test]
fn a_weight_below_0_unlearns_its_token() {
    let model = model();
    let learn = |completion: Vec<u32>, weights: Vec<f32>| Example {
        prompt: vec![1, 10],
        completion,
        weights: Some(weights),
    };
    let config = SftConfig {
        epochs: 40,
        optimizer: OptimizerConfig { learning_rate: 2e-3, warmup_steps: 0, ..OptimizerConfig::default() },
        ..SftConfig::default()
    };
    // First the token is learned, then unlearned beside another that is learned.
    sft(&model, &[learn(vec![30, 50], vec![1.0, 1.0])], &config, &mut |_, _| Ok(())).unwrap();
    let known = last(&model, &[1, 10, 30, 50]);
    assert!(known > -2.5, "{known}");
    let examples = [learn(vec![30, 50], vec![0.0, -1.0]), learn(vec![30, 40], vec![0.0, 1.0])];
    let summary = sft(&model, &examples, &config, &mut |_, _| Ok(())).unwrap();
    assert!(summary.last_loss < summary.first_loss);
    let (unlearned, learned) = (last(&model, &[1, 10, 30, 50]), last(&model, &[1, 10, 30, 40]));
    assert!(unlearned < known - 1.0 && learned > unlearned + 0.5, "{known} {unlearned} {learned}");
}
