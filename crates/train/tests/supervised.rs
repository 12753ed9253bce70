//! Next-token training and SFT on a tiny model.

mod tiny;

use vul2safe_tokens::Tokenizer;
use vul2safe_train::{
    Example, OptimizerConfig, PretrainConfig, Schedule, SftConfig, TrainError, TrainSummary, pretrain, sft,
};

fn optimizer(learning_rate: f64) -> OptimizerConfig {
    OptimizerConfig {
        learning_rate,
        warmup_steps: 2,
        schedule: Schedule::Constant,
        weight_decay: 0.0,
        ..Default::default()
    }
}

#[test]
fn pretraining_learns_a_small_corpus_by_heart() {
    let texts = [
        "def add(a, b):\n    return a + b\n",
        "def sub(a, b):\n    return a - b\n",
        "def one():\n    return 1\n",
    ];
    let tokenizer = Tokenizer::train(texts.iter().copied(), 260).unwrap();
    let documents: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| {
            let mut ids = tokenizer.encode(text);
            ids.push(tokenizer.end_of_text());
            ids
        })
        .collect();
    assert!(tokenizer.vocabulary_size() <= 260);
    let model = tiny::model(1);
    let config = PretrainConfig {
        optimizer: optimizer(1e-2),
        epochs: 60,
        tokens_per_batch: 1000,
        ..Default::default()
    };
    let mut seen = Vec::new();
    let summary = pretrain(&model, &documents, &config, &mut |step, metrics| {
        assert_eq!(step, seen.len() as u64);
        let names: Vec<&str> = metrics.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["loss", "learning_rate", "gradient_norm", "tokens", "tokens_per_second", "epoch"]);
        assert!(metrics.iter().all(|(_, value)| value.is_finite()));
        seen.push(metrics[0].1);
        Ok(())
    })
    .unwrap();
    assert_eq!((summary.steps, seen.len()), (60, 60));
    // Untrained it guesses among 260 ids; learned by heart, only the choice of the document is left to guess.
    assert!((summary.first_loss - 260f64.ln()).abs() < 0.5, "{}", summary.first_loss);
    assert!(summary.last_loss < 0.3, "{}", summary.last_loss);
    let tokens: usize = documents.iter().map(Vec::len).sum();
    assert_eq!(summary.tokens, 60 * tokens as u64);
    let lengths: Vec<usize> = documents.iter().map(Vec::len).collect();
    assert_eq!(config.steps(&lengths), 60);
}

/// Three examples whose prompts hold id 200, which no completion does.
fn examples() -> Vec<Example> {
    (0..3u32)
        .map(|index| Example {
            prompt: vec![10 + index, 200, 30],
            completion: vec![40 + index, 50, 60 + index, 2],
            weights: None,
        })
        .collect()
}

fn train(examples: &[Example], change: impl FnOnce(&mut SftConfig)) -> (vul2safe_model::Model, TrainSummary) {
    let model = tiny::model(2);
    let mut config = SftConfig { optimizer: optimizer(5e-3), epochs: 20, ..SftConfig::default() };
    change(&mut config);
    let summary = sft(&model, examples, &config, &mut |_, _| Ok(())).unwrap();
    (model, summary)
}

#[test]
fn sft_raises_completions_and_leaves_prompts_without_loss() {
    let examples = examples();
    let before = tiny::model(2);
    let (after, summary) = train(&examples, |_| ());
    for example in &examples {
        let (old, new) = (
            tiny::log_prob(&before, &example.prompt, &example.completion),
            tiny::log_prob(&after, &example.prompt, &example.completion),
        );
        assert!(new > old + 5.0, "{old} → {new}");
    }
    // The loss is the mean over completion tokens alone: one sequence at a time gives the same number.
    let sum: f32 = examples.iter().map(|e| tiny::log_prob(&before, &e.prompt, &e.completion)).sum();
    assert!((summary.first_loss + f64::from(sum) / 12.0).abs() < 1e-4);
    // An id that is only ever read in prompts did not become likelier where it stands.
    let prompt_token = |model: &vul2safe_model::Model| tiny::log_prob(model, &[10], &[200]);
    assert!(prompt_token(&after) < prompt_token(&before));
}

#[test]
fn weights_choose_what_is_learned() {
    let weighted: Vec<Example> =
        examples().into_iter().map(|e| Example { weights: Some(vec![0.0, 1.0, 0.0, 0.0]), ..e }).collect();
    let before = tiny::model(2);
    let (after, summary) = train(&weighted, |_| ());
    let example = &weighted[0];
    let token = |model, place: usize| {
        let read = [example.prompt.as_slice(), &example.completion[..place]].concat();
        tiny::log_prob(model, &read, &example.completion[place..=place])
    };
    assert!(token(&after, 1) > token(&before, 1) + 3.0);
    assert!(token(&after, 3) < token(&before, 3) + 0.5);
    let expected: f32 = weighted
        .iter()
        .map(|e| {
            tiny::log_prob(&before, &[e.prompt.as_slice(), &e.completion[..1]].concat(), &e.completion[1..2])
        })
        .sum();
    assert!((summary.first_loss + f64::from(expected) / 3.0).abs() < 1e-4);
}

#[test]
fn accumulation_changes_nothing_and_the_same_seed_gives_the_same_bits() {
    let examples = examples();
    let (whole, _) = train(&examples, |_| ());
    let (again, _) = train(&examples, |_| ());
    assert_eq!(tiny::weights(&whole), tiny::weights(&again));
    let (first, second) = (
        train(&examples, |c| c.epochs = 1),
        train(&examples, |c| {
            c.epochs = 1;
            c.tokens_per_microbatch = 7;
        }),
    );
    assert!((first.1.first_loss - second.1.first_loss).abs() < 1e-5);
    let differences =
        tiny::weights(&first.0).into_iter().flatten().zip(tiny::weights(&second.0).into_iter().flatten());
    // One step of the size of the learning rate (2.5e-3 in the warm-up): all signs agree, and more.
    let largest = differences.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-5, "{largest}");
}

#[test]
fn too_long_examples_are_counted_and_nothing_is_an_error() {
    let mut many = examples();
    many.push(Example { prompt: vec![1; 50], completion: vec![2], weights: None });
    let (_, summary) = train(&many, |config| {
        config.maximum_length = 20;
        config.maximum_steps = Some(2);
    });
    assert_eq!((summary.skipped, summary.steps), (1, 2));
    let model = tiny::model(2);
    let error = sft(
        &model,
        &many[3..],
        &SftConfig { maximum_length: 20, ..SftConfig::default() },
        &mut |_, _| Ok(()),
    );
    let error = error.unwrap_err();
    assert!(matches!(error, TrainError::NoData { .. }) && error.hint().is_some(), "{error}");
}

#[test]
fn an_exploding_run_stops_and_names_step_and_batch() {
    let model = tiny::model(2);
    let config = SftConfig {
        optimizer: OptimizerConfig { clip_norm: f64::INFINITY, ..optimizer(1e30) },
        epochs: 10,
        ..SftConfig::default()
    };
    let error = sft(&model, &examples(), &config, &mut |_, _| Ok(())).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, TrainError::NotFinite { stage: "sft", .. }), "{text}");
    assert!(text.contains("step ") && text.contains("items "), "{text}");
}

#[test]
fn an_error_of_the_log_stops_the_run() {
    let model = tiny::model(2);
    let error = sft(&model, &examples(), &SftConfig::default(), &mut |step, _| {
        if step == 1 { Err("disk full".into()) } else { Ok(()) }
    });
    assert_eq!(error.unwrap_err().to_string(), "disk full");
}
