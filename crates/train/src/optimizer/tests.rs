use candle_core::{Device, Tensor, Var};

use super::*;

fn parameters() -> Vec<(String, Var)> {
    let matrix = Var::from_slice(&[1.0f32, -2.0, 0.5, 4.0], (2, 2), &Device::Cpu).unwrap();
    let vector = Var::from_slice(&[1.0f32, -1.0], 2, &Device::Cpu).unwrap();
    vec![("matrix".to_owned(), matrix), ("vector".to_owned(), vector)]
}

/// Gradients of `½ Σ p²`, which are the parameters themselves.
fn gradients(parameters: &[(String, Var)]) -> Gradients {
    let loss = parameters.iter().map(|(_, p)| (p.sqr().unwrap().sum_all().unwrap() * 0.5).unwrap());
    let loss = loss.reduce(|sum, part| (sum + part).unwrap()).unwrap();
    let mut gradients = Gradients::new(parameters.len());
    gradients.add(parameters, &mut loss.backward().unwrap()).unwrap();
    gradients
}

fn values(parameters: &[(String, Var)]) -> Vec<Vec<f32>> {
    parameters.iter().map(|(_, p)| p.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn schedules_by_hand() {
    let config = |schedule| OptimizerConfig {
        learning_rate: 1.0,
        warmup_steps: 4,
        schedule,
        final_share: 0.1,
        ..Default::default()
    };
    let cosine = config(Schedule::Cosine);
    assert_eq!([cosine.rate(0, 14), cosine.rate(3, 14), cosine.rate(4, 14)], [0.25, 1.0, 1.0]);
    assert!((cosine.rate(9, 14) - 0.55).abs() < 1e-12 && (cosine.rate(14, 14) - 0.1).abs() < 1e-12);
    assert!((config(Schedule::Linear).rate(9, 14) - 0.55).abs() < 1e-12);
    assert_eq!(config(Schedule::Constant).rate(13, 14), 1.0);
    assert_eq!(OptimizerConfig { warmup_steps: 0, ..config(Schedule::Linear) }.rate(0, 1), 1.0);
}

#[test]
fn first_step_by_hand() {
    let parameters = parameters();
    let config = OptimizerConfig { weight_decay: 0.5, clip_norm: f64::INFINITY, ..Default::default() };
    let mut optimizer = AdamW::new(&parameters, config);
    let norm = optimizer.step(&gradients(&parameters), 0.1).unwrap();
    assert!((norm - (1.0f64 + 4.0 + 0.25 + 16.0 + 2.0).sqrt()).abs() < 1e-6);
    // At the first step the bias-corrected ratio is the gradient's sign; only the matrix decays (factor 0.95).
    let expected = [[0.85f32, -1.8, 0.375, 3.7].to_vec(), [0.9, -0.9].to_vec()];
    for (ours, theirs) in values(&parameters).iter().flatten().zip(expected.iter().flatten()) {
        assert!((ours - theirs).abs() < 1e-6, "{ours} is not {theirs}");
    }
}

#[test]
fn clipping_scales_all_parameters_together() {
    for (clip_norm, scale) in [(f64::INFINITY, 1.0), (1.0, 1.0 / 23.25f32.sqrt())] {
        let parameters = parameters();
        let config = OptimizerConfig { clip_norm, epsilon: 1.0, weight_decay: 0.0, ..Default::default() };
        let before = values(&parameters);
        AdamW::new(&parameters, config).step(&gradients(&parameters), 0.1).unwrap();
        for (before, after) in before.iter().flatten().zip(values(&parameters).iter().flatten()) {
            // The gradient is the parameter; at the first step both moments are its own.
            let gradient = before * scale;
            let expected = before - 0.1 * gradient / (gradient.abs() + 1.0);
            assert!((after - expected).abs() < 1e-6, "{after} is not {expected}");
        }
    }
}

#[test]
fn a_step_with_an_infinite_gradient_changes_nothing() {
    let parameters = parameters();
    let mut optimizer = AdamW::new(&parameters, OptimizerConfig::default());
    let loss = (parameters[0].1.sum_all().unwrap() * f64::INFINITY).unwrap();
    let mut gradients = Gradients::new(2);
    gradients.add(&parameters, &mut loss.backward().unwrap()).unwrap();
    let before = values(&parameters);
    assert!(!optimizer.step(&gradients, 0.1).unwrap().is_finite());
    assert_eq!((values(&parameters), optimizer.steps()), (before, 0));
}

#[test]
fn gradients_of_micro_batches_add_up() {
    let parameters = parameters();
    let mut sum = Gradients::new(2);
    for share in [0.25, 0.75] {
        let loss = (parameters[0].1.sqr().unwrap().sum_all().unwrap() * (0.5 * share)).unwrap();
        sum.add(&parameters, &mut loss.backward().unwrap()).unwrap();
    }
    let sum: Vec<f32> = sum.get(0).map(Tensor::flatten_all).unwrap().unwrap().to_vec1().unwrap();
    assert_eq!(sum, [1.0, -2.0, 0.5, 4.0]);
}

#[test]
fn state_survives_a_file_and_a_cut_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.safetensors");
    let run = |resume: bool| {
        let parameters = parameters();
        let mut optimizer = AdamW::new(&parameters, OptimizerConfig::default());
        for step in 0..6 {
            if resume && step == 3 {
                optimizer.save(&path).unwrap();
                optimizer = AdamW::new(&parameters, OptimizerConfig::default());
                optimizer.load(&path).unwrap();
            }
            optimizer.step(&gradients(&parameters), 0.05).unwrap();
        }
        values(&parameters)
    };
    assert_eq!(run(true), run(false));

    let bytes = std::fs::read(&path).unwrap();
    let parameters = parameters();
    let mut optimizer = AdamW::new(&parameters, OptimizerConfig::default());
    for length in [0, 7, 40, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = optimizer.load(&path).unwrap_err();
        assert!(matches!(error, TrainError::Checkpoint { .. }) && error.hint().is_some(), "{error}");
    }
    let mut other = AdamW::new(&parameters[..1], OptimizerConfig::default());
    std::fs::write(&path, &bytes).unwrap();
    assert!(other.load(&path).is_ok());
    let renamed = [("other".to_owned(), parameters[0].1.clone())];
    assert!(AdamW::new(&renamed, OptimizerConfig::default()).load(&path).is_err());
}

#[test]
fn impossible_settings_are_refused_by_name() {
    let bad = OptimizerConfig { clip_norm: 0.0, ..Default::default() };
    assert!(bad.check().unwrap_err().to_string().contains("optimizer.clip_norm"));
    assert!(OptimizerConfig { learning_rate: f64::NAN, ..Default::default() }.check().is_err());
    assert!(OptimizerConfig::default().check().is_ok());
    assert!(serde_json::from_str::<OptimizerConfig>(r#"{"learning_rat": 1}"#).is_err());
}
