//! Parity with transformers 5.10.4 and PEFT 0.21.2 on torch 2.9.1 (CPU, float32, eager attention) for four tiny decoders.
//!
//! The numbers are looked for under `VUL2SAFE_GOLDEN` or beside the workspace; where they are absent the tests say so and pass.

use std::collections::HashMap;
use std::path::PathBuf;

use super::emulator::Emulator;
use crate::cuda::*;

#[derive(serde::Deserialize)]
pub(super) struct Expected {
    sequences: Vec<Vec<u32>>,
    prompt_lengths: Vec<usize>,
    loss: f64,
    loss_tokens: usize,
    grad_norm: f64,
    greedy: Vec<Vec<u32>>,
    adamw: Steps,
    lora_loss: f64,
}

#[derive(serde::Deserialize)]
struct Steps {
    betas: [f64; 2],
    eps: f64,
    weight_decay_on_matrices: f64,
    clip: f64,
    steps: Vec<Step>,
}

#[derive(serde::Deserialize)]
struct Step {
    lr: f64,
    loss: f64,
    grad_norm_before_clip: f64,
}

type Tensors = HashMap<String, Vec<f32>>;

pub(super) struct Golden {
    folder: PathBuf,
    pub(super) sizes: Sizes,
    pub(super) weights: Tensors,
    expected: Expected,
    tensors: Tensors,
}

fn tensors(path: PathBuf) -> Tensors {
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    file.iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32);
            let four = view.data().chunks_exact(4);
            (name.to_string(), four.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        })
        .collect()
}

fn sizes(folder: &std::path::Path) -> Sizes {
    let text = std::fs::read(folder.join("config.json")).expect("config.json");
    let config: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let number = |key: &str| config[key].as_u64().map(|value| value as usize);
    let needed = |key: &str| number(key).unwrap_or_else(|| panic!("{key} in config.json"));
    let kind = config["model_type"].as_str().expect("model_type");
    let head_width = number("head_dim").unwrap_or(needed("hidden_size") / needed("num_attention_heads"));
    let base = config["rope_parameters"]["rope_theta"].as_f64().expect("rope_theta");
    Sizes {
        vocabulary: needed("vocab_size"),
        hidden: needed("hidden_size"),
        feed_forward: needed("intermediate_size"),
        layers: needed("num_hidden_layers"),
        heads: needed("num_attention_heads"),
        key_heads: needed("num_key_value_heads"),
        head_width,
        epsilon: config["rms_norm_eps"].as_f64().expect("rms_norm_eps") as f32,
        tied: config["tie_word_embeddings"].as_bool().expect("tie_word_embeddings"),
        bias: kind == "qwen2",
        head_norms: kind == "qwen3",
        inverse_frequencies: (0..head_width / 2)
            .map(|i| (1.0 / base.powf(2.0 * i as f64 / head_width as f64)) as f32)
            .collect(),
        positions: needed("max_position_embeddings"),
    }
}

pub(super) const MODELS: [&str; 4] = ["qwen2-tied", "qwen2-untied", "qwen3-tied", "llama"];

pub(super) fn golden(name: &str) -> Option<Golden> {
    let root = std::env::var_os("VUL2SAFE_GOLDEN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"),
        PathBuf::from,
    );
    let folder = root.join("models").join(name);
    if !folder.exists() {
        println!("skipped: {} not found", folder.display());
        return None;
    }
    let text = std::fs::read(folder.join("expected.json")).expect("expected.json");
    Some(Golden {
        sizes: sizes(&folder),
        weights: tensors(folder.join("model.safetensors")),
        expected: serde_json::from_slice(&text).expect("expected.json has the documented fields"),
        tensors: tensors(folder.join("expected.safetensors")),
        folder,
    })
}

impl Golden {
    pub(super) fn engine(&self, settings: Settings) -> Option<Engine<Emulator>> {
        let driver = Emulator::new(settings.precision, self.sizes.head_width)?;
        Some(self.engine_on(driver, settings))
    }

    pub(super) fn engine_on<D: Driver>(&self, driver: D, settings: Settings) -> Engine<D> {
        Engine::new(driver, self.sizes.clone(), settings, &mut from_map(&self.weights))
            .expect("the model loads")
    }

    pub(super) fn packed(&self) -> (Vec<u32>, Vec<u32>) {
        let mut offsets = vec![0];
        offsets.extend(self.expected.sequences.iter().scan(0, |end, sequence| {
            *end += sequence.len() as u32;
            Some(*end)
        }));
        (self.expected.sequences.concat(), offsets)
    }

    /// Rows and targets that carry the loss.
    pub(super) fn rows(&self) -> (Vec<u32>, Vec<u32>) {
        let (ids, offsets) = self.packed();
        let mut rows = Vec::new();
        for (pair, prompt) in offsets.windows(2).zip(&self.expected.prompt_lengths) {
            rows.extend(pair[0] + *prompt as u32 - 1..pair[1] - 1);
        }
        assert_eq!(rows.len(), self.expected.loss_tokens);
        let targets = rows.iter().map(|&row| ids[row as usize + 1]).collect();
        (rows, targets)
    }

    /// The mean loss, with its gradients added.
    pub(super) fn loss<D: Driver>(&self, engine: &mut Engine<D>) -> f64 {
        let (ids, offsets) = self.packed();
        let (rows, targets) = self.rows();
        let options = PassOptions { keep: true, ..PassOptions::default() };
        let mut pass = engine.forward(&ids, &offsets, options).expect("forward");
        let scores = engine.score(&pass, &rows, &targets, 1.0).expect("scores");
        let slope = -1.0 / rows.len() as f32;
        engine
            .score_backward(&mut pass, &scores, &vec![slope; rows.len()], &vec![0.0; rows.len()])
            .expect("the head's backward pass");
        engine.backward(pass).expect("backward");
        -scores.log_prob.iter().map(|&value| f64::from(value)).sum::<f64>() / rows.len() as f64
    }
}

pub(super) fn exact() -> Settings {
    // A small budget of logits, so that scores go through several chunks.
    Settings { precision: Precision::F32, logits: 1, ..Settings::default() }
}

/// The largest difference.
fn most(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).fold(0.0, |most, (got, want)| {
        let difference = (got - want).abs();
        // A NaN is as wrong as can be.
        if difference.is_nan() { f32::INFINITY } else { most.max(difference) }
    })
}

fn near(what: &str, got: f64, want: f64, relative: f64) {
    assert!((got - want).abs() <= relative * want.abs(), "{what}: {got}, expected {want}");
}

fn check_logits<D: Driver>(golden: &Golden, engine: &Engine<D>, expected: &Tensors, tolerance: f32) {
    let (ids, offsets) = golden.packed();
    let pass = engine.forward(&ids, &offsets, PassOptions::default()).expect("forward");
    let logits = engine.logits(&pass).expect("logits");
    let vocabulary = golden.sizes.vocabulary;
    for (index, pair) in offsets.windows(2).enumerate() {
        let got = &logits[pair[0] as usize * vocabulary..pair[1] as usize * vocabulary];
        let difference = most(got, &expected[&format!("logits.{index}")]);
        assert!(difference <= tolerance, "logits of sequence {index} differ by {difference}");
    }
}

fn check_gradients<D: Driver>(engine: &Engine<D>, expected: &Tensors) {
    for (name, shape) in engine.trained() {
        let got = engine.read(name, Part::Gradient).expect("a gradient");
        let want = &expected[&format!("grad.{name}")];
        assert_eq!(want.len(), shape.iter().product::<usize>());
        let scale = want.iter().fold(0.0f32, |scale, want| scale.max(want.abs()));
        // The gradient of a key's bias is zero in exact arithmetic: there, rounding is all there is.
        let relative = most(&got, want) / scale.max(1e-5);
        assert!(relative <= 1e-3, "gradient of {name} differs by {relative} of its largest");
    }
}

fn check(name: &str) {
    let Some(golden) = golden(name) else { return };
    let Some(mut engine) = golden.engine(exact()) else { return };
    check_logits(&golden, &engine, &golden.tensors, 2e-4);

    let (ids, offsets) = golden.packed();
    let pass = engine.forward(&ids, &offsets, PassOptions::default()).expect("forward");
    for (index, pair) in offsets.windows(2).enumerate() {
        let rows: Vec<u32> = (pair[0]..pair[1]).collect();
        let targets: Vec<u32> =
            rows.iter().map(|&row| if row + 1 < pair[1] { ids[row as usize + 1] } else { 0 }).collect();
        let scores = engine.score(&pass, &rows, &targets, 1.0).expect("scores");
        let logs = &scores.log_prob[..rows.len() - 1];
        assert!(most(logs, &golden.tensors[&format!("logprobs.{index}")]) <= 2e-4, "log-probabilities");
        assert!(most(&scores.entropy, &golden.tensors[&format!("entropy.{index}")]) <= 2e-4, "entropies");
    }

    let loss = golden.loss(&mut engine);
    near("loss", loss, golden.expected.loss, 1e-5);
    check_gradients(&engine, &golden.tensors);
    near("gradient norm", engine.gradient_norm().expect("norm"), golden.expected.grad_norm, 1e-4);
}

#[test]
fn tied_qwen2_matches_transformers() {
    check("qwen2-tied");
}

#[test]
fn untied_qwen2_matches_transformers() {
    check("qwen2-untied");
}

#[test]
fn tied_qwen3_matches_transformers() {
    check("qwen3-tied");
}

#[test]
fn llama_matches_transformers() {
    check("llama");
}
