//! Adapters: what is shared, what is trained, and what their files say.

use std::path::Path;

use candle_core::Tensor;
use vul2safe_model::{
    Adapter, Config, LoraConfig, Model, ModelError, Packed, Parameter, Pass, Precision, SamplingOptions,
    Target,
};

const TEXT: [u32; 9] = [5, 17, 60, 0, 5, 33, 2, 40, 9];

fn config(architecture: &str) -> Config {
    Config {
        model_type: architecture.into(),
        initializer_range: 0.25,
        max_position_embeddings: 256,
        head_dim: Some(8),
        ..Config::new(61, 24, 40, 2, 4, 2)
    }
}

/// An adapter whose B is not zero, so that it changes something and every gradient can be seen.
fn adapter(lora: LoraConfig, model: &Model, seed: u64) -> Adapter {
    let adapter = Adapter::new(lora, model.config(), seed).expect("an adapter");
    for (index, parameter) in adapter.parameters().iter().enumerate().filter(|(index, _)| index % 2 == 1) {
        let values: Vec<f32> = (0..parameter.count())
            .map(|at| 0.2 * ((at * 7 + index * 3 + seed as usize) as f32).sin())
            .collect();
        parameter.set(&values).expect("the same count");
    }
    adapter
}

fn lora() -> LoraConfig {
    LoraConfig { rank: 3, alpha: 5.0, ..LoraConfig::default() }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("f32 numbers")
}

fn logits(model: &Model) -> Vec<f32> {
    numbers(&model.logits(&Packed::new(&[&TEXT])).expect("logits"))
}

fn objective(model: &Model, pass: Pass) -> Tensor {
    let hidden = model.hidden_in(&Packed::new(&[&TEXT]), pass).expect("hidden");
    let scores = model.score(&hidden, &[0, 3, 4, 7], &[17, 5, 33, 9], 0.9).expect("scores");
    (scores.log_prob.sum_all().expect("a sum") + scores.entropy.sum_all().expect("a sum")).expect("a sum")
}

fn farthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn every_gradient_agrees_with_differences_with_and_without_dropout() {
    for (architecture, dropout) in [("qwen2", 0.0), ("qwen3", 0.3), ("llama", 0.0)] {
        let base = Model::random(config(architecture), 3).expect("a model");
        let model = base.with_adapter(adapter(LoraConfig { dropout, ..lora() }, &base, 1)).expect("it fits");
        let pass = Pass { dropout: Some(11) };
        objective(&model, pass).backward().expect("backward");
        assert_eq!(model.parameters().len(), 2 * 2 * 7);
        for parameter in model.parameters() {
            let gradient = parameter.gradient().unwrap_or_else(|| panic!("none for {}", parameter.name()));
            assert!(gradient.iter().any(|value| value.abs() > 1e-6), "{} is zero", parameter.name());
            let values = parameter.numbers();
            let direction: Vec<f32> =
                (0..values.len()).map(|at| ((at * 37 % 101) as f32 * 0.7).sin()).collect();
            let length = direction.iter().map(|value| value * value).sum::<f32>().sqrt();
            let step = 4e-3 / length;
            let moved = |sign: f32| {
                let moved: Vec<f32> =
                    values.iter().zip(&direction).map(|(value, d)| value + sign * step * d).collect();
                parameter.set(&moved).expect("the same count");
                f64::from(objective(&model, pass).to_scalar::<f32>().expect("a number"))
            };
            let want = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
            parameter.set(&values).expect("the same count");
            let got: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let tolerance = 2e-2 * want.abs() + 2e-3 * f64::from(length);
            assert!((got - want).abs() <= tolerance, "{}: {got}, by differences {want}", parameter.name());
        }
        assert!(
            base.parameters().iter().all(|parameter| parameter.gradient().is_none()),
            "the base is frozen"
        );
    }
}

#[test]
fn dropout_follows_its_seed_and_only_in_a_pass_that_has_one() {
    let base = Model::random(config("qwen2"), 3).expect("a model");
    let model = base.with_adapter(adapter(LoraConfig { dropout: 0.5, ..lora() }, &base, 1)).expect("it fits");
    let value = |dropout| objective(&model, Pass { dropout }).to_scalar::<f32>().expect("a number");
    assert_eq!(value(Some(1)), value(Some(1)));
    assert_ne!(value(Some(1)), value(Some(2)));
    assert_eq!(value(None), value(None));
    // The mean over many seeds is about the value without dropout for a small adapter.
    let plain = value(None);
    let mean = (0..200).map(|seed| value(Some(seed))).sum::<f32>() / 200.0;
    assert!((mean - plain).abs() < 0.15 * plain.abs().max(1.0), "{mean} against {plain}");
}

#[test]
fn several_adapters_stand_on_one_base_and_leave_it_alone() {
    let base = Model::random(config("qwen2"), 3).expect("a model");
    let plain = logits(&base);
    let first = base.with_adapter(adapter(lora(), &base, 1)).expect("it fits");
    let targets = LoraConfig { target_modules: vec![Target::Query, Target::Down], ..lora() };
    let second = first.with_adapter(adapter(targets, &base, 2)).expect("it fits");
    assert_eq!(second.parameters().len(), 2 * 2 * 2);
    let (with_first, with_second) = (logits(&first), logits(&second));
    assert!(farthest(&plain, &with_first) > 1e-2 && farthest(&with_first, &with_second) > 1e-2);
    assert_eq!(logits(&first.without_adapter().expect("the base")), plain);
    assert_eq!(logits(&base), plain);
    // A duplicate's adapter is its own.
    let copy = second.duplicate().expect("a copy");
    copy.parameters()[1].set(&vec![1.0; copy.parameters()[1].count()]).expect("the same count");
    assert_ne!(copy.parameters()[1].numbers(), second.parameters()[1].numbers());
    // The base is one: what changes it changes all.
    base.parameters()[0].set(&vec![0.5; base.parameters()[0].count()]).expect("the same count");
    assert_ne!(logits(&first), with_first);
}

#[test]
fn merging_gives_the_same_logits_and_text_and_unmerging_the_base() {
    let base = Model::random(config("qwen3"), 3).expect("a model");
    let rank_stabilized = LoraConfig { rank_stabilized: true, ..lora() };
    assert!((rank_stabilized.scale() - 5.0 / 3f32.sqrt()).abs() < 1e-6);
    let adapter = adapter(rank_stabilized, &base, 4);
    let adapted = base.with_adapter(adapter.clone()).expect("it fits");
    let merged = adapted.merge().expect("merging");
    assert!(merged.lora().is_none() && farthest(&logits(&merged), &logits(&adapted)) < 1e-3);
    let greedy = SamplingOptions { temperature: 0.0, maximum_new_tokens: 12, ..SamplingOptions::default() };
    let text = |model: &Model| {
        model.generate(&[TEXT.to_vec()], std::slice::from_ref(&greedy)).expect("text").remove(0).ids
    };
    assert_eq!(text(&merged), text(&adapted));
    let unmerged = merged.unmerge(&adapter).expect("unmerging");
    assert!(farthest(&logits(&unmerged), &logits(&base)) < 1e-3);
}

#[test]
fn a_new_adapter_changes_nothing_yet() {
    let base = Model::random(config("llama"), 3).expect("a model");
    let model =
        base.with_adapter(Adapter::new(lora(), base.config(), 1).expect("an adapter")).expect("it fits");
    assert_eq!(logits(&model), logits(&base));
}

#[test]
fn a_base_in_bfloat16_trains_an_adapter_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Model::random(config("qwen2"), 3).expect("a model").save(folder.path()).expect("saving");
    let full = Model::load(folder.path()).expect("loading");
    let half = Model::load_as(folder.path(), Precision::Bfloat16).expect("loading");
    assert_eq!((half.precision(), half.parameters().len()), (Precision::Bfloat16, 0));
    assert_eq!(half.fingerprint().expect("a number"), full.fingerprint().expect("a number"));
    let distance = farthest(&logits(&half), &logits(&full));
    assert!(distance > 0.0 && distance < 0.2, "{distance}");
    let error = half.hidden(&Packed::new(&[&TEXT])).expect_err("frozen");
    assert!(matches!(error, ModelError::Frozen { .. }) && error.hint().is_some(), "{error}");
    let adapted = half.with_adapter(adapter(lora(), &half, 1)).expect("it fits");
    objective(&adapted, Pass::default()).backward().expect("backward");
    assert!(adapted.parameters().iter().all(|parameter| parameter.gradient().is_some()));
    // A file in bfloat16 holds exactly the numbers of the model in bfloat16.
    let other = tempfile::tempdir().expect("a temporary folder");
    full.save_as(other.path(), Precision::Bfloat16).expect("saving");
    assert_eq!(logits(&Model::load(other.path()).expect("loading")), logits(&half));
}

#[test]
fn an_adapter_reads_back_bit_for_bit_and_knows_its_base() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = Model::random(config("qwen2"), 3).expect("a model");
    let configured = LoraConfig { target_modules: vec![Target::Value, Target::Up], dropout: 0.1, ..lora() };
    let model = base.with_adapter(adapter(configured, &base, 1)).expect("it fits");
    model.save_adapter(folder.path(), Some("some/base")).expect("saving");
    assert!(Adapter::is_folder(folder.path()));
    let read = Adapter::load(folder.path(), base.config()).expect("loading");
    assert_eq!(Some(read.config()), model.lora());
    let values = |list: &[Parameter]| list.iter().map(Parameter::numbers).collect::<Vec<_>>();
    assert_eq!(values(read.parameters()), values(model.parameters()));
    assert_eq!(logits(&base.with_adapter(read.clone()).expect("it fits")), logits(&model));
    let other = Model::random(config("qwen2"), 4).expect("a model");
    let error = other.with_adapter(read).expect_err("another base");
    assert!(matches!(error, ModelError::OtherBase { .. }) && error.hint().is_some(), "{error}");
    assert!(base.save_adapter(folder.path(), None).is_err());
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = Model::random(config("qwen2"), 3).expect("a model");
    let model = base.with_adapter(adapter(lora(), &base, 1)).expect("it fits");
    model.save_adapter(folder.path(), None).expect("saving");
    let load = |config: &Config| Adapter::load(folder.path(), config);
    let wider = Config { intermediate_size: 48, ..config("qwen2") };
    let deeper = Config { num_hidden_layers: 3, ..config("qwen2") };
    let shallower = Config { num_hidden_layers: 1, ..config("qwen2") };
    for other in [&wider, &deeper, &shallower] {
        let error = load(other).expect_err("another shape");
        assert!(matches!(error, ModelError::OtherBase { .. }), "{error}");
    }
    for (key, value) in [
        ("use_dora", serde_json::json!(true)),
        ("bias", serde_json::json!("all")),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("target_modules", serde_json::json!(["embed_tokens"])),
        ("peft_type", serde_json::json!("IA3")),
        ("rank_pattern", serde_json::json!({"q_proj": 2})),
    ] {
        model.save_adapter(folder.path(), None).expect("saving");
        edit(folder.path(), key, value);
        let error = load(base.config()).expect_err(key);
        assert!(matches!(&error, ModelError::Unsupported { key: found, .. } if found == key), "{error}");
    }
    model.save_adapter(folder.path(), None).expect("saving");
    edit(folder.path(), "r", serde_json::json!("four"));
    assert!(load(base.config()).expect_err("no number").to_string().contains("`r`"));
    model.save_adapter(folder.path(), None).expect("saving");
    let path = folder.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).expect("reading");
    std::fs::write(&path, &bytes[..bytes.len() - 3]).expect("cutting");
    assert!(matches!(load(base.config()), Err(ModelError::Safetensors { .. })));
    for bad in [
        LoraConfig { rank: 0, ..lora() },
        LoraConfig { dropout: 1.0, ..lora() },
        LoraConfig { alpha: f64::NAN, ..lora() },
        LoraConfig { target_modules: vec![], ..lora() },
        LoraConfig { target_modules: vec![Target::Up, Target::Up], ..lora() },
    ] {
        assert!(Adapter::new(bad, base.config(), 0).is_err());
    }
}

fn edit(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("adapter_config.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("reading")).expect("JSON");
    json[key] = value;
    std::fs::write(path, json.to_string()).expect("writing");
}
