//! Parity with transformers 5.10.4 and PEFT 0.21.2 on torch 2.9.1 (CPU, float32, eager attention) for four tiny decoders.
//!
//! The numbers are looked for under `VUL2SAFE_GOLDEN` or beside the workspace; where they are absent the tests say so and pass.

use std::collections::HashMap;
use std::path::PathBuf;

use super::emulator::Emulator;
use super::{Open, distance};
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

pub(super) fn tensors(path: PathBuf) -> Tensors {
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
        rotary_factor: 1.0,
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
    /// The model on a driver that `open` makes.
    pub(super) fn engine<D: Driver>(&self, open: Open<D>, settings: Settings) -> Option<Engine<D>> {
        self.engine_with(open, settings, &Tensors::new())
    }

    /// The same with more tensors beside its own.
    fn engine_with<D: Driver>(&self, open: Open<D>, settings: Settings, more: &Tensors) -> Option<Engine<D>> {
        let driver = open(settings.precision, self.sizes.head_width)?;
        let mut tensor = |name: &str| match more.get(name) {
            Some(numbers) => Ok(numbers.clone()),
            None => from_map(&self.weights)(name),
        };
        Some(Engine::new(driver, self.sizes.clone(), settings, &mut tensor).expect("the model loads"))
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
        println!("logits of sequence {index} differ by {difference:.1e}");
        assert!(difference <= tolerance, "logits of sequence {index} differ by {difference}");
    }
}

fn check_gradients<D: Driver>(engine: &Engine<D>, expected: &Tensors) {
    let mut worst = 0.0f32;
    for (name, shape) in engine.trained() {
        let got = engine.read(name, Part::Gradient).expect("a gradient");
        let want = &expected[&format!("grad.{name}")];
        assert_eq!(want.len(), shape.iter().product::<usize>());
        let scale = want.iter().fold(0.0f32, |scale, want| scale.max(want.abs()));
        // The gradient of a key's bias is zero in exact arithmetic: there, rounding is all there is.
        let relative = most(&got, want) / scale.max(1e-5);
        worst = worst.max(relative);
        assert!(relative <= 1e-3, "gradient of {name} differs by {relative} of its largest");
    }
    println!("gradients differ by at most {worst:.1e} of each tensor's largest");
}

pub(super) fn check<D: Driver>(name: &str, open: Open<D>) {
    let Some(golden) = golden(name) else { return };
    let Some(mut engine) = golden.engine(open, exact()) else { return };
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
    check_greedy(&golden, &engine);
}

/// 24 greedy tokens of each prompt, by the cache; and the cache's logits against those of whole sequences.
fn check_greedy<D: Driver>(golden: &Golden, engine: &Engine<D>) {
    let prompts: Vec<&[u32]> = golden.expected.sequences.iter().map(Vec::as_slice).collect();
    let (vocabulary, slots) = (golden.sizes.vocabulary, [2, 0, 1]);
    let mut cache = engine.cache(3, 64).expect("a cache");
    // What longer texts left in the slots must not be seen.
    let (stale, _) = golden.packed();
    engine
        .prefill(&mut cache, &slots, &[&stale[..64], &stale[1..65], &stale[2..66]], AdapterUse::Apart)
        .expect("the slots are filled");
    slots.iter().for_each(|&slot| cache.truncate(slot, 0));
    let mut logits = engine.prefill(&mut cache, &slots, &prompts, AdapterUse::Apart).expect("the prompts");
    let mut texts = vec![Vec::new(); 3];
    let mut seen: Vec<Vec<f32>> = vec![Vec::new(); 3];
    for _ in 0..24 {
        let mut next = Vec::new();
        let drawn = engine.sample(&logits, &[Draw { temperature: 0.0, seed: 0 }; 3]).expect("draws");
        let rows = engine.read_logits(&logits).expect("logits");
        for (text, (row, (id, log_prob))) in rows.chunks_exact(vocabulary).zip(drawn).enumerate() {
            let best = (0..vocabulary).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a vocabulary");
            assert_eq!(best, id as usize, "the largest logit");
            let total: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            near("ln p", f64::from(log_prob), f64::from(row[best]) - total.ln(), 1e-5);
            texts[text].push(id);
            seen[text].extend_from_slice(row);
            next.push(id);
        }
        logits = engine.decode(&mut cache, &slots, &next, AdapterUse::Apart).expect("a step");
    }
    assert_eq!(texts, golden.expected.greedy);
    for (index, (prompt, text)) in prompts.iter().zip(&texts).enumerate() {
        let whole = [prompt, &text[..]].concat();
        let pass = engine.forward(&whole, &[0, whole.len() as u32], PassOptions::default()).expect("forward");
        let all = engine.logits(&pass).expect("logits");
        let first = (prompt.len() - 1) * vocabulary;
        let difference = most(&seen[index], &all[first..first + 24 * vocabulary]);
        assert!(difference <= 2e-5, "cached decoding differs from the whole by {difference}");
    }
}

pub(super) fn check_steps<D: Driver>(name: &str, open: Open<D>) {
    let Some(golden) = golden(name) else { return };
    let Some(mut engine) = golden.engine(open, exact()) else { return };
    let Steps { betas, eps, weight_decay_on_matrices, clip, steps } = &golden.expected.adamw;
    for (index, step) in steps.iter().enumerate() {
        engine.zero_gradients().expect("zeroed");
        near(&format!("loss before step {index}"), golden.loss(&mut engine), step.loss, 1e-4);
        let settings = StepNumbers {
            rate: step.lr,
            beta1: betas[0],
            beta2: betas[1],
            epsilon: *eps,
            weight_decay: *weight_decay_on_matrices,
            clip_norm: *clip,
        };
        let norm = engine.step(&settings).expect("a step");
        near(&format!("norm before step {index}"), norm, step.grad_norm_before_clip, 1e-3);
    }
    assert_eq!(engine.steps(), 6);
    let after = tensors(golden.folder.join("after_adamw.safetensors"));
    for (name, _) in engine.trained() {
        // A key's bias has no gradient but rounding, which Adam makes as large as any.
        if !name.ends_with("k_proj.bias") {
            // Where a gradient is almost nothing, Adam makes its rounding as large as a tenth of a step.
            let value = engine.read(name, Part::Value).expect("a value");
            let (difference, off) = (most(&value, &after[name]), distance(&value, &after[name]));
            assert!(difference <= 2e-3 && off <= 1e-4, "{name} differs by {difference}, {off} in all");
        }
    }
}

fn adapter_settings() -> AdapterSettings {
    AdapterSettings { rank: 4, scale: 8.0 / 4.0, modules: Module::ALL.to_vec(), dropout: 0.0 }
}

pub(super) fn check_adapter<D: Driver>(name: &str, open: Open<D>) {
    let Some(golden) = golden(name) else { return };
    let adapter: Tensors = tensors(golden.folder.join("adapter/adapter_model.safetensors"))
        .into_iter()
        .map(|(name, numbers)| (name.trim_start_matches("base_model.model.").to_string(), numbers))
        .collect();
    let settings = Settings { trained: Trained::Adapter(adapter_settings()), ..exact() };
    let Some(mut engine) = golden.engine_with(open, settings, &adapter) else { return };
    let expected = tensors(golden.folder.join("expected_lora.safetensors"));
    check_logits(&golden, &engine, &expected, 2e-4);
    near("loss", golden.loss(&mut engine), golden.expected.lora_loss, 1e-5);
    assert_eq!(engine.trained().len(), golden.sizes.layers * 14);
    check_gradients(&engine, &expected);

    // Without the adapter it is the model itself; the cache knows the adapter as well.
    let (ids, offsets) = golden.packed();
    let options = PassOptions { adapter: AdapterUse::Off, ..PassOptions::default() };
    let pass = engine.forward(&ids, &offsets, options).expect("forward");
    let vocabulary = golden.sizes.vocabulary;
    let end = offsets[1] as usize * vocabulary;
    assert!(most(&engine.logits(&pass).expect("logits")[..end], &golden.tensors["logits.0"]) <= 2e-4);
    let mut cache = engine.cache(1, 64).expect("a cache");
    let prompt = &ids[..offsets[1] as usize];
    let (last, rest) = prompt.split_last().expect("a prompt");
    engine.prefill(&mut cache, &[0], &[rest], AdapterUse::Apart).expect("the prompt");
    let logits = engine.decode(&mut cache, &[0], &[*last], AdapterUse::Apart).expect("a step");
    let logits = engine.read_logits(&logits).expect("logits");
    assert!(most(&logits, &expected["logits.0"][end - vocabulary..]) <= 2e-4);

    let merged = PassOptions { adapter: AdapterUse::Merged, ..PassOptions::default() };
    let refused = engine.forward(&ids, &offsets, merged).map(|_| ()).expect_err("nothing is merged");
    assert!(refused.to_string().contains("nothing is merged"), "{refused}");
    engine.merge().expect("merged");
    let pass = engine.forward(&ids, &offsets, merged).expect("forward");
    assert!(most(&engine.logits(&pass).expect("logits")[..end], &expected["logits.0"]) <= 2e-4);
    engine.unmerge();
}

macro_rules! each_model {
    ($($test:ident: $check:ident($name:literal);)*) => {
        $(
            #[test]
            fn $test() {
                $check($name, &Emulator::new);
            }
        )*
    };
}

each_model! {
    tied_qwen2_matches_transformers: check("qwen2-tied");
    untied_qwen2_matches_transformers: check("qwen2-untied");
    tied_qwen3_matches_transformers: check("qwen3-tied");
    llama_matches_transformers: check("llama");
    steps_of_tied_qwen2_match_torch: check_steps("qwen2-tied");
    steps_of_untied_qwen2_match_torch: check_steps("qwen2-untied");
    steps_of_tied_qwen3_match_torch: check_steps("qwen3-tied");
    steps_of_llama_match_torch: check_steps("llama");
    adapter_on_tied_qwen2_matches_peft: check_adapter("qwen2-tied");
    adapter_on_untied_qwen2_matches_peft: check_adapter("qwen2-untied");
    adapter_on_tied_qwen3_matches_peft: check_adapter("qwen3-tied");
    adapter_on_llama_matches_peft: check_adapter("llama");
}
