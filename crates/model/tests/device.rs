//! A model on a device is the model on the processor: the GPU's engine behind `Model`, on the emulator.
#![cfg(feature = "emulator")]

use vul2safe_model::{
    Adapter, Config, Device, GenerateOptions, Gradients, LoraConfig, Model, ModelError, Packed, Part, Pass,
    Placement, Precision, SamplingOptions, TokenBytes, Trainable,
};

const TEXTS: [&[u32]; 3] = [&[3, 17, 5, 33, 9, 1], &[12, 60], &[7, 7, 2, 40, 8, 21, 30]];

fn emulator(precision: Precision, frozen: bool) -> Placement {
    Placement { device: Device::Emulator, precision, frozen }
}

const EXACT: Placement = Placement { device: Device::Emulator, precision: Precision::Float32, frozen: false };

/// One small model of each kind.
fn configs() -> Vec<Config> {
    let plain = Config { initializer_range: 0.2, ..Config::new(61, 32, 48, 2, 4, 2) };
    vec![
        plain.clone(),
        Config { tie_word_embeddings: false, model_type: "llama".into(), ..plain.clone() },
        Config { model_type: "qwen3".into(), head_dim: Some(16), ..plain.clone() },
        Config {
            rope_scaling: serde_json::from_value(serde_json::json!({
                "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64
            }))
            .expect("parameters"),
            ..plain
        },
    ]
}

fn with_adapter(model: &Model, dropout: f32) -> Model {
    let config = LoraConfig { rank: 4, alpha: 8.0, dropout, ..LoraConfig::default() };
    let adapter = Adapter::new(config, model.config(), 3).expect("an adapter");
    for (index, parameter) in adapter.parameters().iter().enumerate() {
        let number = |at: usize| 0.1 * (((at * 37 + index * 11) % 23) as f32 / 11.0 - 1.0);
        parameter.set(&(0..parameter.count()).map(number).collect::<Vec<_>>()).expect("the same count");
    }
    model.with_adapter(adapter).expect("it fits")
}

fn logits(model: &Model) -> Vec<f32> {
    let logits = model.logits(&Packed::new(&TEXTS)).expect("logits");
    logits.flatten_all().and_then(|logits| logits.to_vec1()).expect("f32 numbers")
}

/// ‖got − want‖ / ‖want‖.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |number: f32| f64::from(number) * f64::from(number);
    let off: f64 = got.iter().zip(want).map(|(got, want)| square(got - want)).sum();
    let all: f64 = want.iter().copied().map(square).sum();
    (off / all.max(1e-30)).sqrt()
}

/// Name and gradient of everything that is trained, in the order of names.
fn gradients(model: &Model) -> Vec<(String, Vec<f32>)> {
    let mut found: Vec<(String, Vec<f32>)> = match model.trainable() {
        Trainable::Host(parameters) => parameters
            .iter()
            .map(|parameter| (parameter.name().to_owned(), parameter.gradient().expect("a gradient")))
            .collect(),
        Trainable::Device(parameters) => parameters
            .shapes()
            .iter()
            .map(|(name, _)| (name.clone(), parameters.read(name, Part::Gradient).expect("a gradient")))
            .collect(),
    };
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn assert_same_gradients(got: &Model, want: &Model, tolerance: f64) {
    let (got, want) = (gradients(got), gradients(want));
    assert_eq!(got.len(), want.len());
    for ((name, got), (other, want)) in got.iter().zip(&want) {
        assert_eq!(name, other);
        // A key's bias has no gradient but rounding.
        if !name.ends_with("k_proj.bias") {
            assert!(want.iter().any(|number| *number != 0.0), "{name} has no gradient");
            assert!(distance(got, want) <= tolerance, "{name}: {} apart", distance(got, want));
        }
    }
}

fn number(at: usize) -> f32 {
    ((at * 29 % 17) as f32 - 8.0) / 10.0
}

#[test]
fn logits_scores_and_gradients_are_those_of_the_processor() {
    for config in configs() {
        let base = Model::random(config, 7).expect("a model");
        for adapted in [false, true] {
            for checkpointing in [false, true] {
                let host = if adapted { with_adapter(&base, 0.0) } else { base.duplicate().expect("a copy") };
                host.set_checkpointing(checkpointing);
                let device = host.placed(EXACT).expect("placed");
                assert_eq!(device.checkpointing(), checkpointing);
                assert!(distance(&logits(&device), &logits(&host)) <= 1e-5);

                let batch = Packed::new(&TEXTS);
                let rows = [0, 2, 4, 6, 8, 13];
                let targets = [17, 33, 1, 60, 9, 30];
                let numbers =
                    |count: usize, from: usize| (from..from + count).map(number).collect::<Vec<_>>();
                let (log_prob, entropy, hidden) = (numbers(6, 1), numbers(6, 9), numbers(6 * 32, 4));
                let run = |model: &Model| {
                    let pass = model
                        .scored_pass(&batch, &rows, &targets, 0.8, Some(Pass::default()))
                        .expect("a pass");
                    let seen = [pass.log_prob.clone(), pass.entropy.clone()].concat();
                    let states: Vec<f32> =
                        pass.hidden().and_then(|h| Ok(h.flatten_all()?.to_vec1()?)).expect("hidden");
                    pass.backward(Gradients {
                        log_prob: &log_prob,
                        entropy: Some(&entropy),
                        hidden: Some(&hidden),
                    })
                    .expect("the way back");
                    (seen, states)
                };
                let (got, want) = (run(&device), run(&host));
                assert!(distance(&got.0, &want.0) <= 1e-5 && distance(&got.1, &want.1) <= 1e-5);
                assert_same_gradients(&device, &host, 1e-4);
                // The same numbers without the memory of a way back, to the bit.
                let detached = device.scored_pass(&batch, &rows, &targets, 0.8, None).expect("a pass");
                assert_eq!([detached.log_prob.clone(), detached.entropy.clone()].concat(), got.0);
                assert!(
                    detached.backward(Gradients { log_prob: &log_prob, ..Gradients::default() }).is_err()
                );
                let detached = host.scored_pass(&batch, &rows, &targets, 0.8, None).expect("a pass");
                assert_eq!([detached.log_prob.clone(), detached.entropy.clone()].concat(), want.0);
                assert!(
                    detached.backward(Gradients { log_prob: &log_prob, ..Gradients::default() }).is_err()
                );

                // A loss whose gradients are known beforehand, added to what is there.
                let learn = |model: &Model| {
                    model.learn(&batch, &rows, &targets, &log_prob, Pass::default()).expect("a pass")
                };
                assert!(distance(&learn(&device), &learn(&host)) <= 1e-5);
                assert_same_gradients(&device, &host, 1e-4);
            }
        }
    }
}

#[test]
fn bfloat16_stays_near() {
    let host = Model::random(configs().remove(0), 7).expect("a model");
    let device = host.placed(emulator(Precision::Bfloat16, false)).expect("placed");
    let off = distance(&logits(&device), &logits(&host));
    assert!(off > 0.0 && off <= 3e-2, "{off}");
    // What is trained has a copy that is not rounded; what is frozen has not.
    let folder = tempfile::tempdir().expect("a folder");
    device.save(folder.path()).expect("saved");
    assert_eq!(logits(&Model::load(folder.path()).expect("loaded")), logits(&host));
    let frozen = host.placed(emulator(Precision::Bfloat16, true)).expect("placed");
    frozen.save(folder.path()).expect("saved");
    let rounded = Model::load_as(folder.path(), Precision::Bfloat16).expect("loaded");
    assert!(distance(&logits(&Model::load(folder.path()).expect("loaded")), &logits(&rounded)) <= 1e-6);
    assert!(matches!(frozen.trainable(), Trainable::Host(none) if none.is_empty()));
    let refused = frozen.learn(&Packed::new(&[&[1, 2]]), &[0], &[2], &[-1.0], Pass::default());
    assert!(matches!(refused, Err(ModelError::Frozen { .. })), "{refused:?}");
}

#[test]
fn files_and_copies_hold_the_same_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for config in configs() {
        let host = with_adapter(&Model::random(config, 7).expect("a model"), 0.0);
        let base = host.without_adapter().expect("the base");
        base.save(&path("base")).expect("saved");
        let device = Model::load_on(&path("base"), emulator(Precision::Float32, true)).expect("loaded");
        assert_eq!(device.fingerprint().expect("read"), base.fingerprint().expect("read"));
        assert_eq!(device.first_not_finite().expect("read"), None);
        device.save(&path("again")).expect("saved");
        let read = |name: &str| std::fs::read(path(name).join("model.safetensors")).expect("weights");
        assert!(read("base") == read("again"), "the files are the same to the bit");

        host.save_adapter(&path("adapter"), Some("base")).expect("saved");
        let adapter = Adapter::load(&path("adapter"), device.config()).expect("loaded");
        let adapted = device.with_adapter(adapter).expect("it fits");
        assert_eq!(adapted.lora(), host.lora());
        assert!(distance(&logits(&adapted), &logits(&host)) <= 1e-5);
        adapted.save_adapter(&path("adapter-again"), Some("base")).expect("saved");
        let read = |name: &str| -> Vec<Vec<f32>> {
            let adapter = Adapter::load(&path(name), device.config()).expect("loaded");
            adapter.parameters().iter().map(vul2safe_model::Parameter::numbers).collect()
        };
        assert!(read("adapter") == read("adapter-again"), "the numbers are the same to the bit");

        // The base is shared and stays as it was; copies have numbers of their own.
        let copy = adapted.duplicate().expect("a copy");
        let Trainable::Device(numbers) = copy.trainable() else { panic!("on the device") };
        let (name, shape) = numbers.shapes()[1].clone();
        let count = shape.iter().product();
        numbers.write(&name, Part::Value, &vec![0.5; count]).expect("written");
        assert!(distance(&logits(&copy), &logits(&adapted)) > 1e-3);
        assert!(distance(&logits(&adapted.without_adapter().expect("the base")), &logits(&base)) <= 1e-5);
        let merged = adapted.merge().expect("merged");
        assert!(merged.lora().is_none() && distance(&logits(&merged), &logits(&host)) <= 1e-4);
        let whole = base.placed(EXACT).expect("placed");
        let copy = whole.duplicate().expect("a copy");
        let Trainable::Device(numbers) = copy.trainable() else { panic!("on the device") };
        numbers.write("model.norm.weight", Part::Value, &[0.5; 32]).expect("written");
        assert!(distance(&logits(&whole), &logits(&base)) <= 1e-5);
        assert!(distance(&logits(&copy), &logits(&base)) > 1e-2);

        let other = with_adapter(&Model::random(host.config().clone(), 8).expect("a model"), 0.0);
        let foreign = other.adapter().expect("read").expect("one");
        assert!(matches!(device.with_adapter(foreign), Err(ModelError::OtherBase { .. })));
    }
}

#[test]
fn greedy_answers_are_those_of_the_processor() {
    for config in configs() {
        let host = with_adapter(&Model::random(config, 7).expect("a model"), 0.0);
        let device = host.placed(EXACT).expect("placed");
        let prompts: Vec<Vec<u32>> =
            [TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[2], TEXTS[1]].map(<[u32]>::to_vec).to_vec();
        let options =
            SamplingOptions { maximum_new_tokens: 20, temperature: 0.0, ..SamplingOptions::default() };
        let mut options = vec![options; prompts.len()];
        options[3].repetition_penalty = 1.3;
        options[4].maximum_new_tokens = 7;
        // Two run at a time, so that slots are used again and others are read beside those that run.
        for maximum_running in [2, 128] {
            let together = || GenerateOptions { maximum_running, ..GenerateOptions::default() };
            let got = device.generate_with(&prompts, &options, together()).expect("answers");
            let want = host.generate_with(&prompts, &options, together()).expect("answers");
            for (got, want) in got.iter().zip(&want) {
                assert_eq!((&got.ids, got.finished), (&want.ids, want.finished));
                assert!(distance(&got.log_probs, &want.log_probs) <= 1e-4);
            }
        }
        // The host's sampler on the device's logits draws what it draws on the processor's.
        options.iter_mut().enumerate().for_each(|(index, options)| {
            *options = SamplingOptions {
                maximum_new_tokens: 12,
                temperature: 0.9,
                top_k: 20,
                top_p: 0.95,
                min_p: 0.01,
                seed: index as u64,
                ..SamplingOptions::default()
            };
        });
        let ids = |model: &Model| -> Vec<Vec<u32>> {
            let answers = model.generate(&prompts, &options).expect("answers");
            answers.into_iter().map(|answer| answer.ids).collect()
        };
        assert_eq!(ids(&device), ids(&host));
    }
}

#[test]
fn draws_depend_on_seed_and_prompt_and_have_the_model_s_log_probs() {
    let host = Model::random(configs().remove(0), 7).expect("a model");
    let device = host.placed(emulator(Precision::Float32, true)).expect("placed");
    let prompts = vec![TEXTS[0].to_vec(); 4];
    let options: Vec<SamplingOptions> = [1, 2, 1, 3]
        .into_iter()
        .map(|seed| SamplingOptions { maximum_new_tokens: 16, seed, ..SamplingOptions::default() })
        .collect();
    let answers = device.generate(&prompts, &options).expect("answers");
    assert_eq!(answers, device.generate(&prompts, &options).expect("answers"));
    assert_eq!(answers[0], answers[2], "the same seed, the same answer");
    assert_ne!(answers[0].ids, answers[1].ids);
    for answer in &answers {
        let whole = [TEXTS[0], &answer.ids].concat();
        let first = TEXTS[0].len() - 1;
        let rows: Vec<u32> = (first..whole.len() - 1).map(|row| row as u32).collect();
        let (log_probs, _) =
            host.score_detached(&Packed::new(&[&whole]), &rows, &answer.ids, 1.0).expect("scores");
        assert!(distance(&answer.log_probs, &log_probs) <= 1e-4);
    }
}

#[test]
fn stop_strings_cancelling_and_bad_requests() {
    let host = Model::random(configs().remove(0), 7).expect("a model");
    let device = host.placed(emulator(Precision::Float32, true)).expect("placed");
    let greedy = SamplingOptions { maximum_new_tokens: 10, temperature: 0.0, ..SamplingOptions::default() };
    let plain = device.generate(&[vec![3, 4]], std::slice::from_ref(&greedy)).expect("an answer").remove(0);
    let table: TokenBytes = (0..61).map(|id| format!("<{id}>")).collect();
    let stop = format!("<{}>", plain.ids[3]);
    let options = SamplingOptions { stop_strings: vec![stop], ..greedy.clone() };
    let together = GenerateOptions { token_bytes: Some(table), ..GenerateOptions::default() };
    let stopped = device
        .generate_with(&[vec![3, 4]], std::slice::from_ref(&options), together.clone())
        .expect("an answer")
        .remove(0);
    assert_eq!(stopped.finished, vul2safe_model::Finish::StopString);
    assert!(plain.ids.starts_with(&stopped.ids) && stopped.ids.len() <= 4);

    let mut generator = device.generator(GenerateOptions::default()).expect("a queue");
    for prompt in [&[][..], &[61]] {
        assert!(matches!(generator.submit(prompt, &greedy), Err(ModelError::Input { .. })));
    }
    assert!(generator.submit(&[1], &options).is_err(), "stop strings without a table");
    let (first, second) =
        (generator.submit(&[1], &greedy).expect("queued"), generator.submit(&[2], &greedy).expect("queued"));
    generator.step().expect("a step");
    assert!(generator.cancel(first).is_some() && generator.cancel(first).is_none());
    let mut ids = 1;
    while !generator.is_idle() {
        for event in generator.step().expect("a step") {
            if let vul2safe_model::Event::Token { request, .. } = event {
                assert_eq!(request, second);
                ids += 1;
            }
        }
    }
    assert_eq!(ids, 10);

    let batch = Packed::new(&[&[1, 2, 3]]);
    assert!(matches!(
        device.hidden(&batch),
        Err(ModelError::OnDevice { .. } | ModelError::Frozen { .. } | ModelError::Input { .. })
    ));
    assert!(matches!(device.score_detached(&batch, &[5], &[1], 1.0), Err(ModelError::Input { .. })));
    let uneven = Model::random(Config::new(61, 30, 48, 2, 5, 1), 1).expect("a model");
    let error = uneven.placed(EXACT).expect_err("not computed");
    assert!(error.to_string().contains("hidden_size is 30") && error.hint().is_some(), "{error}");
}

#[test]
fn logits_that_are_not_finite_name_their_request() {
    let host = Model::random(configs().remove(0), 7).expect("a model");
    let embedding = &host.parameters()[0];
    let mut numbers = embedding.numbers();
    numbers[5 * 32] = f32::NAN;
    embedding.set(&numbers).expect("the same count");
    let device = host.placed(EXACT).expect("placed");
    let (name, place, value) = device.first_not_finite().expect("read").expect("one");
    assert!(name == "model.embed_tokens.weight" && place == 5 * 32 && value.is_nan());
    let options = SamplingOptions { maximum_new_tokens: 3, ..SamplingOptions::default() };
    let error = device.generate(&[vec![5]], &[options]).expect_err("NaN");
    assert!(matches!(error, ModelError::NotFiniteLogits { request: 0 }), "{error}");
}
