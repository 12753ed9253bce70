//! The model as a whole: gradients, packing, sampling, files. Needs nothing outside the repository.

use std::path::Path;

use candle_core::Tensor;
use vul2safe_model::{Config, Finish, Model, ModelError, Packed, Parameter, SamplingOptions};

fn config(tied: bool) -> Config {
    Config {
        tie_word_embeddings: tied,
        initializer_range: 0.25,
        max_position_embeddings: 256,
        ..Config::new(61, 24, 40, 2, 4, 2)
    }
}

/// A model whose biases and norms are not at their plain initial values, so that no gradient is zero by accident.
fn model(tied: bool) -> Model {
    let model = Model::random(config(tied), 3).expect("a model");
    for (index, parameter) in model.parameters().iter().enumerate() {
        let name = parameter.name();
        if name.ends_with("bias") || name.ends_with("norm.weight") {
            let base = if name.ends_with("bias") { 0.0 } else { 1.0 };
            let values: Vec<f32> =
                (0..parameter.count()).map(|at| base + 0.3 * ((at * 5 + index) as f32).sin()).collect();
            parameter.set(&values).expect("the same count");
        }
    }
    model
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("f32 numbers")
}

const FIRST: [u32; 7] = [5, 17, 60, 0, 5, 33, 2];
const SECOND: [u32; 4] = [9, 9, 12, 40];

/// Σ weighted log-probabilities and entropies, in which every part of the graph takes part.
fn objective(model: &Model, temperature: f32) -> Tensor {
    let batch = Packed::new(&[&FIRST, &SECOND]);
    let hidden = model.hidden(&batch).expect("hidden");
    // Row 3 twice: gradients of a repeated row add up.
    let scores =
        model.score(&hidden, &[0, 3, 3, 6, 8, 9], &[17, 5, 6, 1, 9, 12], temperature).expect("scores");
    let weights = Tensor::new(&[0.7f32, -0.4, 1.1, 0.5, -0.9, 0.8], hidden.device()).expect("weights");
    let log_probs = (scores.log_prob * &weights).and_then(|product| product.sum_all()).expect("a number");
    let entropies = (scores.entropy * weights.sqr().expect("squares"))
        .and_then(|product| product.sum_all())
        .expect("a number");
    (log_probs + entropies * 0.5).expect("a number")
}

fn check_gradients(tied: bool) {
    let model = model(tied);
    objective(&model, 0.8).backward().expect("backward");
    for parameter in model.parameters() {
        let name = parameter.name();
        let gradient = parameter.gradient().unwrap_or_else(|| panic!("no gradient for {name}"));
        if !name.ends_with("k_proj.bias") {
            assert!(gradient.iter().any(|value| value.abs() > 1e-6), "the gradient of {name} is zero");
        }
        let values = parameter.numbers();
        // A directional derivative along a random-looking direction tests every element at once.
        let direction: Vec<f32> = (0..values.len()).map(|at| ((at * 37 % 101) as f32 * 0.7).sin()).collect();
        let length = direction.iter().map(|value| value * value).sum::<f32>().sqrt();
        let step = 4e-3 / length;
        let moved = |sign: f32| {
            let moved: Vec<f32> =
                values.iter().zip(&direction).map(|(value, d)| value + sign * step * d).collect();
            parameter.set(&moved).expect("the same count");
            f64::from(objective(&model, 0.8).to_scalar::<f32>().expect("a number"))
        };
        let want = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
        parameter.set(&values).expect("the same count");
        let got: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let tolerance = 2e-2 * want.abs() + 2e-3 * f64::from(length);
        assert!((got - want).abs() <= tolerance, "{name}: {got} along the direction, by differences {want}");
    }
}

#[test]
fn every_gradient_agrees_with_differences_tied() {
    check_gradients(true);
}

#[test]
fn every_gradient_agrees_with_differences_untied() {
    check_gradients(false);
}

#[test]
fn packed_is_the_same_as_one_at_a_time() {
    let model = model(true);
    let together = numbers(&model.logits(&Packed::new(&[&FIRST, &SECOND])).expect("logits"));
    let mut apart = numbers(&model.logits(&Packed::new(&[&FIRST])).expect("logits"));
    apart.extend(numbers(&model.logits(&Packed::new(&[&SECOND])).expect("logits")));
    for (a, b) in together.iter().zip(&apart) {
        assert!((a - b).abs() < 1e-5, "{a} packed, {b} alone");
    }
}

#[test]
fn a_pass_without_a_tape_gives_the_same_bits() {
    let model = model(false);
    let batch = Packed::new(&[&FIRST, &SECOND]);
    assert_eq!(
        numbers(&model.hidden(&batch).expect("hidden")),
        numbers(&model.hidden_detached(&batch).expect("hidden"))
    );
}

#[test]
fn two_backward_passes_through_one_graph_agree() {
    let model = model(true);
    let loss = objective(&model, 1.0);
    let gradients = || {
        loss.backward().expect("backward");
        let found: Vec<_> = model.parameters().iter().map(Parameter::gradient).collect();
        model.parameters().iter().for_each(Parameter::clear_gradient);
        found
    };
    assert_eq!(gradients(), gradients());
}

#[test]
fn a_score_in_chunks_is_the_softmax_of_the_logits() {
    let model = model(false);
    // More rows than the forward chunk of 64.
    let sequence: Vec<u32> = (0..150).map(|at| at * 7 % 61).collect();
    let batch = Packed::new(&[&sequence]);
    let (rows, targets): (Vec<u32>, Vec<u32>) = (0..149).map(|row| (row, sequence[row as usize + 1])).unzip();
    let logits = numbers(&model.logits(&batch).expect("logits"));
    let scores = model.score(&model.hidden(&batch).expect("hidden"), &rows, &targets, 0.7).expect("scores");
    let (log_probs, entropies) = (numbers(&scores.log_prob), numbers(&scores.entropy));
    for (index, (row, target)) in rows.iter().zip(&targets).enumerate() {
        let line: Vec<f64> =
            logits[*row as usize * 61..][..61].iter().map(|value| f64::from(*value) / 0.7).collect();
        let total: f64 = line.iter().map(|value| value.exp()).sum::<f64>().ln();
        assert!((f64::from(log_probs[index]) - (line[*target as usize] - total)).abs() < 1e-4);
        let entropy: f64 = line.iter().map(|value| -(value - total) * (value - total).exp()).sum();
        assert!((f64::from(entropies[index]) - entropy).abs() < 1e-4);
    }
}

fn options(seed: u64) -> SamplingOptions {
    SamplingOptions { maximum_new_tokens: 20, seed, ..SamplingOptions::default() }
}

#[test]
fn cached_greedy_text_is_that_of_full_passes() {
    let model = model(true);
    let mut text = FIRST.to_vec();
    let answer = &model
        .generate(&[text.clone()], &[SamplingOptions { temperature: 0.0, ..options(0) }])
        .expect("an answer")[0];
    for (id, log_prob) in answer.ids.iter().zip(&answer.log_probs) {
        let logits = numbers(&model.logits(&Packed::new(&[&text])).expect("logits"));
        let last = &logits[(text.len() - 1) * 61..];
        let best = (0..61).max_by(|a, b| last[*a].total_cmp(&last[*b])).expect("61 ids");
        assert_eq!(*id as usize, best);
        let total = last.iter().map(|value| value.exp()).sum::<f32>().ln();
        assert!((log_prob - (last[best] - total)).abs() < 1e-4);
        text.push(*id);
    }
    assert_eq!((answer.ids.len(), answer.finished), (20, Finish::Length));
}

#[test]
fn an_answer_does_not_depend_on_its_companions() {
    let model = model(true);
    let prompts: Vec<Vec<u32>> =
        (0..40).map(|at| (0..=at % 7).map(|place| (at * 11 + place * 3) % 61).collect()).collect();
    let each: Vec<SamplingOptions> =
        (0..40).map(|seed| SamplingOptions { top_p: 0.9, stop_ids: vec![7, 8], ..options(seed) }).collect();
    let together = model.generate(&prompts, &each).expect("answers");
    assert!(together.iter().any(|answer| answer.finished == Finish::Stop));
    assert!(together.iter().all(|answer| answer.ids.iter().rev().skip(1).all(|id| ![7, 8].contains(id))));
    for index in [0, 13, 39] {
        let alone = model.generate(&prompts[index..=index], &each[index..=index]).expect("an answer");
        assert_eq!(alone[0], together[index]);
    }
    assert_eq!(together, model.generate(&prompts, &each).expect("answers again"));
}

#[test]
fn sampling_follows_the_distribution() {
    let model = model(false);
    let prompt = SECOND.to_vec();
    let logits = numbers(&model.logits(&Packed::new(&[&prompt])).expect("logits"));
    let last = &logits[(prompt.len() - 1) * 61..];
    let total: f32 = last.iter().map(|value| value.exp()).sum();
    let count = 4000;
    let each: Vec<SamplingOptions> =
        (0..count).map(|seed| SamplingOptions { maximum_new_tokens: 1, ..options(seed) }).collect();
    let answers = model.generate(&vec![prompt.clone(); count as usize], &each).expect("answers");
    let mut seen = [0usize; 61];
    for answer in &answers {
        seen[answer.ids[0] as usize] += 1;
    }
    for (id, seen) in seen.iter().enumerate() {
        let p = f64::from(last[id].exp() / total);
        let deviation = (p * (1.0 - p) * count as f64).sqrt();
        assert!(
            (*seen as f64 - p * count as f64).abs() <= 5.0 * deviation + 2.0,
            "id {id}: {seen} of {count} at p = {p}"
        );
    }
    // Three most probable ids only.
    let mut order: Vec<usize> = (0..61).collect();
    order.sort_by(|a, b| last[*b].total_cmp(&last[*a]));
    let cut: Vec<SamplingOptions> =
        (0..200).map(|seed| SamplingOptions { maximum_new_tokens: 1, top_k: 3, ..options(seed) }).collect();
    for answer in model.generate(&vec![prompt; 200], &cut).expect("answers") {
        assert!(order[..3].contains(&(answer.ids[0] as usize)));
    }
}

#[test]
fn a_saved_model_reads_back_bit_for_bit() {
    for tied in [true, false] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let saved = model(tied);
        saved.save(folder.path()).expect("saving");
        saved.save(folder.path()).expect("saving over it");
        let read = Model::load(folder.path()).expect("loading");
        assert_eq!(read.parameters().len(), saved.parameters().len());
        assert_eq!(read.config().rotary_base(), saved.config().rotary_base());
        for (a, b) in saved.parameters().iter().zip(read.parameters()) {
            assert_eq!((a.name(), a.numbers()), (b.name(), b.numbers()));
        }
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .expect("listing")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["config.json", "generation_config.json", "model.safetensors"]);
    }
}

#[test]
fn a_duplicate_shares_nothing() {
    let original = model(true);
    let copy = original.duplicate().expect("a copy");
    let before = original.parameters()[0].numbers();
    copy.parameters()[0].set(&vec![0.0; before.len()]).expect("the same count");
    assert_eq!(original.parameters()[0].numbers(), before);
}

fn saved(folder: &Path) {
    model(false).save(folder).expect("saving");
}

fn edit_config(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("config.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("reading")).expect("JSON");
    json[key] = value;
    std::fs::write(path, json.to_string()).expect("writing");
}

#[test]
fn a_truncated_checkpoint_is_one_clear_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    saved(folder.path());
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("reading");
    for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).expect("cutting");
        let error = Model::load(folder.path()).expect_err("a cut file");
        assert!(matches!(error, ModelError::Safetensors { .. }), "{length}: {error}");
        assert!(error.to_string().contains("model.safetensors") && error.hint().is_some());
    }
    std::fs::remove_file(&path).expect("removing");
    assert!(matches!(Model::load(folder.path()), Err(ModelError::Io { .. })));
}

#[test]
fn weights_of_another_model_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    saved(folder.path());
    edit_config(folder.path(), "num_hidden_layers", 3.into());
    let error = Model::load(folder.path()).expect_err("a layer is missing");
    assert!(
        matches!(&error, ModelError::MissingTensor { tensor, .. } if tensor.contains("layers.2")),
        "{error}"
    );
    edit_config(folder.path(), "num_hidden_layers", 1.into());
    assert!(matches!(Model::load(folder.path()), Err(ModelError::UnexpectedTensor { .. })));
    edit_config(folder.path(), "num_hidden_layers", 2.into());
    edit_config(folder.path(), "intermediate_size", 41.into());
    let error = Model::load(folder.path()).expect_err("another width");
    assert!(matches!(&error, ModelError::Shape { .. }), "{error}");
}

#[test]
fn what_is_not_computed_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (key, value) in [
        ("model_type", serde_json::json!("mamba")),
        ("use_sliding_window", serde_json::json!(true)),
        ("rope_parameters", serde_json::json!({"rope_type": "dynamic", "factor": 4.0})),
        ("layer_types", serde_json::json!(["full_attention", "sliding_attention"])),
        ("attention_bias", serde_json::json!(true)),
        ("quantization_config", serde_json::json!({"bits": 4})),
        ("hidden_act", serde_json::json!("gelu")),
    ] {
        saved(folder.path());
        edit_config(folder.path(), key, value);
        let error = Model::load(folder.path()).expect_err(key);
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        let named = key.replace("rope_parameters", "rope_type");
        assert!(error.to_string().contains(&named) && error.hint().is_some(), "{error}");
    }
    std::fs::write(folder.path().join("config.json"), "{").expect("writing");
    assert!(matches!(Model::load(folder.path()), Err(ModelError::ConfigSyntax { .. })));
}

#[test]
fn bad_batches_are_errors_and_not_panics() {
    let model = model(true);
    let bad = [
        Packed::new(&[]),
        Packed::new(&[&[61]]),
        Packed { ids: vec![1, 2], offsets: vec![0, 3] },
        Packed { ids: vec![1, 2], offsets: vec![0, 2, 1, 2] },
        Packed::new(&[&vec![1; 257]]),
    ];
    for batch in bad {
        assert!(matches!(model.hidden(&batch), Err(ModelError::Input { .. })));
    }
    let hidden = model.hidden(&Packed::new(&[&FIRST])).expect("hidden");
    assert!(model.score(&hidden, &[7], &[1], 1.0).is_err());
    assert!(model.score(&hidden, &[1], &[61], 1.0).is_err());
    assert!(model.score(&hidden, &[1, 2], &[1], 1.0).is_err());
    assert!(model.score(&hidden, &[1], &[1], 0.0).is_err());
    assert!(model.generate(&[vec![]], &[options(0)]).is_err());
    assert!(model.generate(&[vec![61]], &[options(0)]).is_err());
    assert!(model.generate(&[vec![1; 256]], &[options(0)]).is_err());
    assert!(model.generate(&[vec![1]], &[]).is_err());
    let near_the_end = model.generate(&[vec![1; 250]], &[options(0)]).expect("six positions are left");
    assert_eq!((near_the_end[0].ids.len(), near_the_end[0].finished), (6, Finish::Length));
}

/// Writes the model's tensors into two shards with an index, in the given number type.
fn shard(folder: &Path, precision: &str) {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes = std::fs::read(folder.join("model.safetensors")).expect("reading");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let converted: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, view)| {
            let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            let data = match precision {
                "bf16" => numbers.flat_map(|n| half::bf16::from_f32(n).to_le_bytes()).collect(),
                "f16" => numbers.flat_map(|n| half::f16::from_f32(n).to_le_bytes()).collect(),
                _ => view.data().to_vec(),
            };
            (name.to_string(), view.shape().to_vec(), data)
        })
        .collect();
    let dtype = match precision {
        "bf16" => Dtype::BF16,
        "f16" => Dtype::F16,
        _ => Dtype::F32,
    };
    let mut map = serde_json::Map::new();
    for (index, part) in converted.chunks(converted.len().div_ceil(2)).enumerate() {
        let file = format!("model-{:05}-of-00002.safetensors", index + 1);
        let views = part.iter().map(|(name, shape, data)| {
            (name.clone(), TensorView::new(dtype, shape.clone(), data).expect("a view"))
        });
        safetensors::serialize_to_file(views, None, &folder.join(&file)).expect("writing");
        map.extend(part.iter().map(|(name, ..)| (name.clone(), serde_json::Value::from(file.clone()))));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("writing");
    std::fs::remove_file(folder.join("model.safetensors")).expect("removing");
}

#[test]
fn shards_in_every_number_type_that_is_read_load() {
    for (precision, tolerance) in [("f32", 0.0), ("f16", 1.0 / 2048.0), ("bf16", 1.0 / 256.0)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        saved(folder.path());
        shard(folder.path(), precision);
        let read = Model::load(folder.path()).expect(precision);
        for (got, want) in read.parameters().iter().zip(model(false).parameters()) {
            for (got, want) in got.numbers().iter().zip(want.numbers()) {
                // f16 has no exponent below 2⁻¹⁴; nothing here is that small and matters.
                assert!(
                    (got - want).abs() <= tolerance * want.abs() + 1e-7,
                    "{precision}: {got}, not {want}"
                );
            }
        }
        let second = folder.path().join("model-00002-of-00002.safetensors");
        let bytes = std::fs::read(&second).expect("reading");
        std::fs::write(&second, &bytes[..bytes.len() - 5]).expect("cutting");
        let error = Model::load(folder.path()).expect_err("a cut shard");
        assert!(error.to_string().contains("model-00002-of-00002"), "{error}");
        std::fs::remove_file(&second).expect("removing");
        assert!(matches!(Model::load(folder.path()), Err(ModelError::Io { .. })));
    }
}

#[test]
fn a_number_type_that_is_not_read_and_numbers_that_are_none_are_named() {
    use safetensors::tensor::{Dtype, TensorView};
    type Change<'a> = &'a dyn Fn(&str, &TensorView<'_>) -> (Dtype, Vec<u8>);
    let folder = tempfile::tempdir().expect("a temporary folder");
    saved(folder.path());
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).expect("reading");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let rewritten = |change: Change<'_>| {
        let all: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = tensors
            .iter()
            .map(|(name, view)| {
                let (dtype, data) = change(name, &view);
                (name.to_string(), view.shape().to_vec(), dtype, data)
            })
            .collect();
        let views = all.iter().map(|(name, shape, dtype, data)| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("a view"))
        });
        safetensors::serialize_to_file(views, None, &path).expect("writing");
        Model::load(folder.path()).expect_err("a bad tensor")
    };
    let error = rewritten(&|name, view| match name {
        "model.norm.weight" => (Dtype::I32, view.data().to_vec()),
        _ => (Dtype::F32, view.data().to_vec()),
    });
    assert!(
        matches!(&error, ModelError::DataType { tensor, .. } if tensor == "model.norm.weight"),
        "{error}"
    );
    let error = rewritten(&|name, view| {
        let mut data = view.data().to_vec();
        if name.ends_with("layers.1.mlp.up_proj.weight") {
            data[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        (Dtype::F32, data)
    });
    assert!(
        matches!(&error, ModelError::NotFinite { tensor, place: 5, .. } if tensor.contains("layers.1.mlp.up_proj")),
        "{error}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn checkpointing_and_the_order_of_a_batch_change_nothing() {
    let (third, fourth) = ([1u32, 2, 3, 4, 5, 6], [60u32, 3, 3]);
    let gradients = |sequences: &[&[u32]], weights: &[f32], checkpointing: bool| {
        let model = model(true);
        model.set_checkpointing(checkpointing);
        let batch = Packed::new(sequences);
        let rows: Vec<u32> = batch.offsets.windows(2).flat_map(|pair| pair[0]..pair[1] - 1).collect();
        let targets: Vec<u32> = rows.iter().map(|&row| batch.ids[row as usize + 1]).collect();
        let each: Vec<f32> = sequences
            .iter()
            .zip(weights)
            .flat_map(|(sequence, weight)| vec![*weight; sequence.len() - 1])
            .collect();
        let log_probs =
            model.learn(&batch, &rows, &targets, &each, vul2safe_model::Pass::default()).expect("a pass");
        assert_eq!(log_probs.len(), rows.len());
        model
            .parameters()
            .iter()
            .flat_map(|parameter| parameter.gradient().expect("one"))
            .collect::<Vec<f32>>()
    };
    let whole = gradients(&[&FIRST, &SECOND, &third, &fourth], &[1.0, -0.5, 0.7, 2.0], false);
    assert_eq!(whole, gradients(&[&FIRST, &SECOND, &third, &fourth], &[1.0, -0.5, 0.7, 2.0], true));
    assert_eq!(whole, gradients(&[&FIRST, &SECOND, &third, &fourth], &[1.0, -0.5, 0.7, 2.0], false));
    let turned = gradients(&[&fourth, &third, &SECOND, &FIRST], &[2.0, 0.7, -0.5, 1.0], false);
    let largest = whole.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for (a, b) in whole.iter().zip(&turned) {
        assert!((a - b).abs() <= 1e-5 * largest, "{a} in one order, {b} in the other");
    }
}

#[test]
fn a_pass_with_known_gradients_is_a_score_and_its_backward_pass() {
    let (rows, targets) = ([0u32, 2, 2, 5, 8, 9], [17u32, 0, 4, 2, 12, 40]);
    let weights = [0.4f32, -1.0, 0.3, 0.9, -0.2, 0.6];
    let batch = Packed::new(&[&FIRST, &SECOND]);
    for tied in [true, false] {
        let (one, two) = (model(tied), model(tied));
        let log_probs =
            one.learn(&batch, &rows, &targets, &weights, vul2safe_model::Pass::default()).expect("a pass");
        let hidden = two.hidden(&batch).expect("hidden");
        let scores = two.score(&hidden, &rows, &targets, 1.0).expect("scores");
        let constant = Tensor::new(&weights, hidden.device()).expect("weights");
        let loss = (&scores.log_prob * constant).and_then(|product| product.sum_all()).expect("a sum");
        loss.backward().expect("backward");
        for (a, b) in log_probs.iter().zip(numbers(&scores.log_prob)) {
            assert!((a - b).abs() < 1e-5);
        }
        for (a, b) in one.parameters().iter().zip(two.parameters()) {
            let (a_gradient, b_gradient) = (a.gradient().expect("one"), b.gradient().expect("one"));
            let largest = b_gradient.iter().fold(1e-3f32, |most, value| most.max(value.abs()));
            for (x, y) in a_gradient.iter().zip(&b_gradient) {
                assert!((x - y).abs() <= 1e-4 * largest, "{}: {x} and {y}", a.name());
            }
        }
    }
}
