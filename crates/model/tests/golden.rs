//! Parity with transformers 5.10.4 on torch 2.9.1 and PEFT 0.21.2 (CPU, float32, eager attention): logits, log-probabilities,
//! entropies, loss, gradients and greedy text of four tiny random models, and logits and gradients with an adapter on them.
//!
//! The numbers are looked for under `VUL2SAFE_GOLDEN` or beside the workspace; where they are absent the tests say so and pass.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use vul2safe_model::{Adapter, Model, Packed, Parameter, SamplingOptions};

#[derive(serde::Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    prompt_lengths: Vec<usize>,
    loss: f64,
    loss_tokens: usize,
    grad_norm: f64,
    greedy: Vec<Vec<u32>>,
    lora_loss: f64,
}

struct Golden {
    folder: PathBuf,
    model: Model,
    expected: Expected,
    tensors: HashMap<String, Tensor>,
}

fn golden(name: &str) -> Option<Golden> {
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
        model: Model::load(&folder).expect("the golden model loads"),
        expected: serde_json::from_slice(&text).expect("expected.json has the documented fields"),
        tensors: tensors(&folder.join("expected.safetensors")),
        folder,
    })
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).expect("tensors")
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("f32 numbers")
}

/// Largest distance of the logits from `logits.<i>` of each sequence.
fn check_logits(name: &str, model: &Model, batch: &Packed, tensors: &HashMap<String, Tensor>) {
    let logits = numbers(&model.logits(batch).expect("logits"));
    let vocabulary = model.config().vocab_size;
    let mut worst = 0.0f32;
    for (index, pair) in batch.offsets.windows(2).enumerate() {
        let want = numbers(&tensors[&format!("logits.{index}")]);
        let got = &logits[pair[0] as usize * vocabulary..pair[1] as usize * vocabulary];
        assert_eq!(got.len(), want.len());
        worst = got.iter().zip(&want).fold(worst, |worst, (got, want)| worst.max((got - want).abs()));
    }
    println!("{name}: logits differ by at most {worst:e}");
    assert!(worst <= 2e-4, "{name}: logits differ by {worst}");
}

/// Token-mean loss over the completions, whose gradients go to the parameters.
fn backward(model: &Model, batch: &Packed, expected: &Expected) -> f64 {
    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (pair, prompt) in batch.offsets.windows(2).zip(&expected.prompt_lengths) {
        for row in pair[0] + *prompt as u32 - 1..pair[1] - 1 {
            rows.push(row);
            targets.push(batch.ids[row as usize + 1]);
        }
    }
    assert_eq!(rows.len(), expected.loss_tokens);
    let hidden = model.hidden(batch).expect("hidden");
    let scores = model.score(&hidden, &rows, &targets, 1.0).expect("scores");
    let loss = scores.log_prob.mean_all().and_then(|mean| mean.neg()).expect("loss");
    loss.backward().expect("backward");
    f64::from(loss.to_scalar::<f32>().expect("a number"))
}

/// Compares every gradient with `grad.<name>`; gives the norm of all.
fn check_gradients(name: &str, parameters: &[Parameter], tensors: &HashMap<String, Tensor>) -> f64 {
    let mut squares = 0.0f64;
    let mut worst = 0.0f32;
    for parameter in parameters {
        let at = parameter.name();
        let got = parameter.gradient().unwrap_or_else(|| panic!("{name}: no gradient for {at}"));
        let want = numbers(&tensors[&format!("grad.{at}")]);
        assert_eq!(got.len(), want.len());
        let scale = want.iter().fold(0.0f32, |scale, want| scale.max(want.abs()));
        let difference = got.iter().zip(&want).fold(0.0f32, |most, (got, want)| most.max((got - want).abs()));
        squares += got.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        // The gradient of a key's bias is zero in exact arithmetic, because softmax ignores a constant: there, rounding
        // is all there is, and it is compared on the scale of the whole gradient.
        let relative = difference / scale.max(1e-5);
        worst = worst.max(relative);
        assert!(relative <= 1e-3, "{name}: gradient of {at} differs by {difference} of {scale}");
    }
    println!("{name}: gradients differ by at most {worst:e} of each tensor's largest");
    squares.sqrt()
}

fn check(name: &str) {
    let Some(Golden { folder, model, expected, tensors: golden }) = golden(name) else { return };
    let tensors_of = tensors;
    let tensors = golden;
    let sequences: Vec<&[u32]> = expected.sequences.iter().map(Vec::as_slice).collect();
    let batch = Packed::new(&sequences);
    check_logits(name, &model, &batch, &tensors);

    // Every row's entropy, and the log-probability of the token that follows it.
    let hidden = model.hidden(&batch).expect("hidden");
    for (index, pair) in batch.offsets.windows(2).enumerate() {
        let rows: Vec<u32> = (pair[0]..pair[1]).collect();
        let targets: Vec<u32> =
            rows.iter().map(|&row| if row + 1 < pair[1] { batch.ids[row as usize + 1] } else { 0 }).collect();
        let scores = model.score(&hidden, &rows, &targets, 1.0).expect("scores");
        let log_probs = numbers(&scores.log_prob);
        for (got, want) in log_probs.iter().zip(numbers(&tensors[&format!("logprobs.{index}")])) {
            assert!((got - want).abs() <= 2e-4, "{name}: log-probability {got}, expected {want}");
        }
        for (got, want) in numbers(&scores.entropy).iter().zip(numbers(&tensors[&format!("entropy.{index}")]))
        {
            assert!((got - want).abs() <= 2e-4, "{name}: entropy {got}, expected {want}");
        }
        let (detached, _) = model.score_detached(&batch, &rows, &targets, 1.0).expect("scores");
        assert_eq!(detached, log_probs, "the pass without a tape differs");
    }

    for checkpointing in [false, true] {
        model.set_checkpointing(checkpointing);
        model.parameters().iter().for_each(Parameter::clear_gradient);
        let loss = backward(&model, &batch, &expected);
        assert!((loss - expected.loss).abs() <= 2e-5, "{name}: loss {loss}, expected {}", expected.loss);
        let norm = check_gradients(name, model.parameters(), &tensors);
        assert!(
            (norm - expected.grad_norm).abs() <= 1e-4 * expected.grad_norm,
            "{name}: gradient norm {norm}"
        );
    }

    let prompts = expected.sequences.clone();
    let options = SamplingOptions { maximum_new_tokens: 24, temperature: 0.0, ..SamplingOptions::default() };
    let answers = model.generate(&prompts, &vec![options; prompts.len()]).expect("greedy text");
    for (answer, greedy) in answers.iter().zip(&expected.greedy) {
        assert_eq!(&answer.ids, greedy, "{name}: greedy text");
    }

    let adapter = Adapter::load(&folder.join("adapter"), model.config()).expect("the adapter loads");
    let adapted = model.with_adapter(adapter.clone()).expect("the adapter fits");
    let with_adapter = tensors_of(&folder.join("expected_lora.safetensors"));
    let lora = format!("{name} with an adapter");
    check_logits(&lora, &adapted, &batch, &with_adapter);
    let loss = backward(&adapted, &batch, &expected);
    assert!((loss - expected.lora_loss).abs() <= 2e-5, "{lora}: loss {loss}, not {}", expected.lora_loss);
    check_gradients(&lora, adapted.parameters(), &with_adapter);
    let merged = adapted.merge().expect("merging");
    check_logits(&format!("{lora}, merged"), &merged, &batch, &with_adapter);
    check_logits(
        &format!("{lora}, unmerged"),
        &merged.unmerge(&adapter).expect("unmerging"),
        &batch,
        &tensors,
    );
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
fn qwen3_matches_transformers() {
    check("qwen3-tied");
}

#[test]
fn llama_matches_transformers() {
    check("llama");
}

/// Log-probabilities and entropies from given logits, at two temperatures, against veRL's `logprobs_from_logits` and
/// `entropy_from_logits` (`ppo.json`). Logits are never materialised here: a head whose rows sum to a logit each gives that logit
/// for a state of ones, which the final norm leaves as it is.
#[test]
fn log_probs_and_entropies_of_given_logits() {
    const WIDTH: usize = 8;
    let root = std::env::var_os("VUL2SAFE_GOLDEN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read(root.join("ppo.json")) else {
        println!("skipped: ppo.json not found in {}", root.display());
        return;
    };
    let golden: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let golden = &golden["logits"];
    let number = |value: &serde_json::Value| value.as_f64().expect("a number") as f32;
    let rows = golden["logits"].as_array().expect("answers").iter().zip(0..).flat_map(|(answer, row)| {
        answer.as_array().expect("tokens").iter().zip(0..).map(move |(logits, token)| (logits, row, token))
    });
    let mut seen = 0;
    for (logits, row, token) in rows {
        let logits: Vec<f32> = logits.as_array().expect("logits").iter().map(number).collect();
        let config = vul2safe_model::Config::new(logits.len(), WIDTH, WIDTH, 1, 2, 1);
        let model = Model::random(config, 1).expect("a model");
        for parameter in model.parameters() {
            if parameter.name().contains("embed_tokens") {
                let head: Vec<f32> = logits.iter().flat_map(|logit| [logit / WIDTH as f32; WIDTH]).collect();
                parameter.set(&head).expect("set");
            }
        }
        let hidden = Tensor::ones((1, WIDTH), candle_core::DType::F32, &Device::Cpu).expect("ones");
        let label = golden["labels"][row][token].as_u64().expect("a label") as u32;
        for (temperature, log_prob, entropy) in
            [(1.0, "logprob", Some("entropy")), (0.7, "logprob_temperature_0.7", None)]
        {
            let scores = model.score(&hidden, &[0], &[label], temperature).expect("scores");
            let near = |ours: &Tensor, expected: &serde_json::Value| {
                let (ours, expected) = (numbers(ours)[0], number(expected));
                assert!((ours - expected).abs() <= 5e-6 * (1.0 + expected.abs()), "{ours} is not {expected}");
            };
            near(&scores.log_prob, &golden[log_prob][row][token]);
            if let Some(entropy) = entropy {
                near(&scores.entropy, &golden[entropy][row][token]);
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 24);
}
