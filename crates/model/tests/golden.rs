//! Parity with transformers 5.10.4 on torch 2.9.1 (CPU, float32, eager attention): logits, log-probabilities, entropies, loss,
//! gradients and greedy text of two tiny random Qwen2 models.
//!
//! The numbers are looked for under `VUL2SAFE_GOLDEN` or beside the workspace; where they are absent the tests say so and pass.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use vul2safe_model::{Model, Packed, SamplingOptions};

#[derive(serde::Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    prompt_lengths: Vec<usize>,
    loss: f64,
    loss_tokens: usize,
    grad_norm: f64,
    greedy: Vec<Vec<u32>>,
}

struct Golden {
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
        tensors: candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu)
            .expect("tensors"),
    })
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("f32 numbers")
}

fn check(name: &str) {
    let Some(Golden { model, expected, tensors }) = golden(name) else { return };
    let sequences: Vec<&[u32]> = expected.sequences.iter().map(Vec::as_slice).collect();
    let batch = Packed::new(&sequences);

    let logits = numbers(&model.logits(&batch).expect("logits"));
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

    let (mut rows, mut targets) = (Vec::new(), Vec::new());
    for (pair, prompt) in batch.offsets.windows(2).zip(&expected.prompt_lengths) {
        for row in pair[0] + *prompt as u32 - 1..pair[1] - 1 {
            rows.push(row);
            targets.push(batch.ids[row as usize + 1]);
        }
    }
    assert_eq!(rows.len(), expected.loss_tokens);
    let scores = model.score(&hidden, &rows, &targets, 1.0).expect("scores");
    let loss = scores.log_prob.mean_all().and_then(|mean| mean.neg()).expect("loss");
    let value = f64::from(loss.to_scalar::<f32>().expect("a number"));
    assert!((value - expected.loss).abs() <= 2e-5, "{name}: loss {value}, expected {}", expected.loss);

    let gradients = loss.backward().expect("backward");
    let mut squares = 0.0f64;
    let mut worst = 0.0f32;
    for (parameter, variable) in model.parameters() {
        let got =
            numbers(gradients.get(variable).unwrap_or_else(|| panic!("{name}: no gradient for {parameter}")));
        let want = numbers(&tensors[&format!("grad.{parameter}")]);
        assert_eq!(got.len(), want.len());
        let scale = want.iter().fold(0.0f32, |scale, want| scale.max(want.abs()));
        let difference = got.iter().zip(&want).fold(0.0f32, |most, (got, want)| most.max((got - want).abs()));
        squares += got.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
        // The gradient of a key's bias is zero in exact arithmetic, because softmax ignores a constant: there, rounding
        // is all there is, and it is compared on the scale of the whole gradient.
        let relative = difference / scale.max(1e-5);
        worst = worst.max(relative);
        assert!(relative <= 1e-3, "{name}: gradient of {parameter} differs by {difference} of {scale}");
    }
    println!("{name}: gradients differ by at most {worst:e} of each tensor's largest");
    let norm = squares.sqrt();
    assert!((norm - expected.grad_norm).abs() <= 1e-4 * expected.grad_norm, "{name}: gradient norm {norm}");

    let prompts = expected.sequences.clone();
    let options = SamplingOptions { maximum_new_tokens: 24, temperature: 0.0, ..SamplingOptions::default() };
    let answers = model.generate(&prompts, &vec![options; prompts.len()]).expect("greedy text");
    for (answer, greedy) in answers.iter().zip(&expected.greedy) {
        assert_eq!(&answer.ids, greedy, "{name}: greedy text");
    }
}

#[test]
fn tied_qwen2_matches_transformers() {
    check("qwen2-tied");
}

#[test]
fn untied_qwen2_matches_transformers() {
    check("qwen2-untied");
}
