use vul2safe_model::{Parameter, Trainable};

use super::*;

fn parameters() -> Vec<Parameter> {
    let matrix = Parameter::new("matrix", vec![1.0, -2.0, 0.5, 4.0], (2, 2)).unwrap();
    let vector = Parameter::new("vector", vec![1.0, -1.0], 2).unwrap();
    vec![matrix, vector]
}

/// Adds the gradients of `½ Σ share · p²`.
fn add_gradients(parameters: &[Parameter], share: f64) {
    let loss = parameters
        .iter()
        .map(|parameter| (parameter.value().sqr().unwrap().sum_all().unwrap() * (0.5 * share)).unwrap());
    let mut store = loss.reduce(|sum, part| (sum + part).unwrap()).unwrap().backward().unwrap();
    parameters.iter().for_each(|parameter| parameter.take_from(&mut store).unwrap());
}

fn values(parameters: &[Parameter]) -> Vec<Vec<f32>> {
    parameters.iter().map(Parameter::numbers).collect()
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
    assert_eq!([cosine.rate(0, 15), cosine.rate(3, 15), cosine.rate(4, 15)], [0.25, 1.0, 1.0]);
    assert!((cosine.rate(9, 15) - 0.55).abs() < 1e-12);
    assert!((config(Schedule::Linear).rate(9, 15) - 0.55).abs() < 1e-12);
    // The last step of 15 has the final share, and so has whatever should follow it.
    for schedule in [Schedule::Cosine, Schedule::Linear] {
        assert!([14, 15, 99].iter().all(|step| (config(schedule).rate(*step, 15) - 0.1).abs() < 1e-12));
    }
    assert_eq!(config(Schedule::Constant).rate(13, 14), 1.0);
    assert_eq!(OptimizerConfig { warmup_steps: 0, ..config(Schedule::Linear) }.rate(0, 1), 1.0);
}

#[test]
fn first_step_by_hand() {
    let parameters = parameters();
    let config = OptimizerConfig { weight_decay: 0.5, clip_norm: f64::INFINITY, ..Default::default() };
    let mut optimizer = AdamW::new(&parameters, config);
    add_gradients(&parameters, 1.0);
    let norm = optimizer.step(0.1).unwrap();
    assert!(
        parameters.iter().all(|parameter| parameter.gradient().is_none()),
        "a step uses its gradients up"
    );
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
        add_gradients(&parameters, 1.0);
        AdamW::new(&parameters, config).step(0.1).unwrap();
        for (before, after) in before.iter().flatten().zip(values(&parameters).iter().flatten()) {
            // The gradient is the parameter; at the first step both moments are its own.
            let gradient = before * scale;
            let expected = before - 0.1 * gradient / (gradient.abs() + 1.0);
            assert!((after - expected).abs() < 1e-6, "{after} is not {expected}");
        }
    }
}

#[test]
fn muon_takes_the_steps_of_torch() {
    // torch.optim.Muon of torch 2.11.0 (lr 0.1, weight_decay 0.5, momentum 0.95, Nesterov, match_rms_adamw), two steps; torch
    // iterates in bfloat16, ours in float32, so places agree to about a tenth of a step (whose root mean square is 0.2 × 0.1).
    let theirs = [
        [
            -0.43953f32,
            -0.00447,
            0.48449,
            -0.11281,
            0.20852,
            -0.39531,
            0.09322,
            -0.45555,
            -0.17172,
            0.31719,
            -0.30492,
            0.20453,
        ],
        [
            -0.45177, -0.00071, 0.45003, -0.08991, 0.18098, -0.36297, 0.08996, -0.45355, -0.17954, 0.26836,
            -0.27499, 0.17907,
        ],
    ];
    let at = |row: usize, column: usize| ((row * 7 + column * 5) % 11) as f32 / 10.0 - 0.5;
    let slope = |row: usize, column: usize| ((row * 3 + column * 8) % 13) as f32 / 100.0 - 0.06;
    let places = || (0..3).flat_map(|row| (0..4).map(move |column| (row, column)));
    let start = places().map(|(row, column)| at(row, column)).collect();
    let matrix = Parameter::new("model.layers.0.mlp.up_proj.weight", start, (3, 4)).unwrap();
    let config = OptimizerConfig {
        method: Method::Muon,
        weight_decay: 0.5,
        clip_norm: f64::INFINITY,
        ..Default::default()
    };
    let mut optimizer = AdamW::new(std::slice::from_ref(&matrix), config);
    for (factor, theirs) in [1.0f32, -2.0].into_iter().zip(theirs) {
        let gradient: Vec<f32> = places()
            .map(|(row, column)| {
                let corner = if factor < 0.0 && row == column { 0.01 } else { 0.0 };
                slope(row, column) * factor + corner
            })
            .collect();
        let gradient = candle_core::Tensor::from_vec(gradient, (3, 4), &candle_core::Device::Cpu).unwrap();
        let loss = (matrix.value().as_tensor() * gradient).unwrap().sum_all().unwrap();
        matrix.take_from(&mut loss.backward().unwrap()).unwrap();
        optimizer.step(0.1).unwrap();
        for (ours, theirs) in matrix.numbers().iter().zip(theirs) {
            assert!((ours - theirs).abs() < 2e-3, "{ours} is not {theirs}");
        }
    }
}

#[test]
fn muon_leaves_tables_and_vectors_to_adamw() {
    let step = |method, name: &str| {
        let matrix = Parameter::new(name, vec![1.0, -2.0, 0.5, 4.0], (2, 2)).unwrap();
        let parameters = [matrix, Parameter::new("model.layers.0.norm.weight", vec![1.0, -1.0], 2).unwrap()];
        add_gradients(&parameters, 1.0);
        AdamW::new(&parameters, OptimizerConfig { method, ..Default::default() }).step(0.1).unwrap();
        values(&parameters)
    };
    let table = "model.embed_tokens.weight";
    assert_eq!(step(Method::Muon, table), step(Method::Adamw, table));
    let inside = "model.layers.0.self_attn.o_proj.weight";
    let (muon, adamw) = (step(Method::Muon, inside), step(Method::Adamw, inside));
    assert_ne!(muon[0], adamw[0]);
    assert_eq!(muon[1], adamw[1]);
}

#[test]
fn a_step_with_an_infinite_gradient_changes_nothing() {
    let parameters = parameters();
    let mut optimizer = AdamW::new(&parameters, OptimizerConfig::default());
    let loss = (parameters[1].value().sum_all().unwrap() * f64::INFINITY).unwrap();
    parameters[1].take_from(&mut loss.backward().unwrap()).unwrap();
    let before = values(&parameters);
    assert!(!optimizer.step(0.1).unwrap().is_finite());
    assert_eq!(
        gradients::first_not_finite(&Trainable::Host(parameters.clone())).unwrap().as_deref(),
        Some("vector")
    );
    assert_eq!((values(&parameters), optimizer.steps()), (before, 0));
}

#[test]
fn gradients_of_micro_batches_add_up() {
    let parameters = parameters();
    add_gradients(&parameters, 0.25);
    add_gradients(&parameters, 0.75);
    assert_eq!(parameters[0].gradient().unwrap(), [1.0, -2.0, 0.5, 4.0]);
    gradients::clear(&Trainable::Host(parameters.clone())).unwrap();
    add_gradients(&parameters, 0.5);
    assert_eq!(parameters[0].gradient().unwrap(), [0.5, -1.0, 0.25, 2.0]);
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
            add_gradients(&parameters, 1.0);
            optimizer.step(0.05).unwrap();
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
    let renamed = [Parameter::new("other", parameters[0].numbers(), (2, 2)).unwrap()];
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
