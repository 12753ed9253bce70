//! Sampling: that an answer depends on nothing but its prompt, its options and the weights, and what ends it.

use std::ops::ControlFlow;

use proptest::prelude::*;
use vul2safe_model::{
    Adapter, Config, DecodePrecision, Event, Finish, GenerateOptions, Generation, LoraConfig, Model,
    ModelError, Packed, Parameter, Precision, SamplingOptions, TokenBytes,
};

fn model(tied: bool) -> Model {
    let config = Config {
        tie_word_embeddings: tied,
        initializer_range: 0.25,
        max_position_embeddings: 256,
        ..Config::new(61, 24, 40, 2, 4, 2)
    };
    Model::random(config, 3).expect("a model")
}

fn greedy(count: usize) -> SamplingOptions {
    SamplingOptions { maximum_new_tokens: count, temperature: 0.0, ..SamplingOptions::default() }
}

fn set(parameter: &Parameter, change: impl Fn(usize, f32) -> f32) {
    let values: Vec<f32> =
        parameter.numbers().into_iter().enumerate().map(|(at, value)| change(at, value)).collect();
    parameter.set(&values).expect("the same count");
}

fn options() -> impl Strategy<Value = SamplingOptions> {
    (0..14usize, 0..3usize, 0..3usize, any::<bool>(), any::<bool>(), 0..1000u64).prop_map(
        |(maximum_new_tokens, temperature, cut, penalty, stop, seed)| SamplingOptions {
            maximum_new_tokens,
            temperature: [0.0, 0.7, 1.0][temperature],
            top_p: [1.0, 0.9, 1.0][cut],
            top_k: [0, 0, 20][cut],
            min_p: if cut == 2 { 0.02 } else { 0.0 },
            repetition_penalty: if penalty { 1.3 } else { 1.0 },
            stop_ids: if stop { vec![7, 8, 9, 10] } else { Vec::new() },
            seed,
            ..SamplingOptions::default()
        },
    )
}

/// A request: which of a few prompts (so that many are the same), its length, and how it is sampled.
fn requests() -> impl Strategy<Value = Vec<(Vec<u32>, SamplingOptions)>> {
    let prompt = (0..4u32, prop_oneof![1..12usize, 60..90usize]).prop_map(|(kind, length)| {
        (0..length as u32).map(|at| (kind * 17 + at * (kind + 3)) % 61).collect::<Vec<u32>>()
    });
    let few = prop::collection::vec(prompt, 1..6);
    (few, prop::collection::vec((any::<prop::sample::Index>(), options()), 1..40)).prop_map(|(few, picks)| {
        picks.into_iter().map(|(index, options)| (index.get(&few).clone(), options)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_answer_depends_on_its_prompt_its_options_and_the_weights_alone(
        requests in requests(),
        maximum_running in 1..50usize,
        maximum_cached_tokens in prop_oneof![1..400usize, Just(100_000)],
        prefill_tokens in 1..100usize,
        threads in 1..5usize,
        precision in prop::sample::select(vec![
            DecodePrecision::Float32, DecodePrecision::Bfloat16, DecodePrecision::Int8,
        ]),
    ) {
        let model = model(true);
        let (prompts, options): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let together = GenerateOptions {
            maximum_running, maximum_cached_tokens, prefill_tokens, precision, token_bytes: None
        };
        let plain = GenerateOptions { precision, ..GenerateOptions::default() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let answers = pool.install(|| model.generate_with(&prompts, &options, together)).expect("answers");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        for (index, answer) in answers.iter().enumerate() {
            let alone = one
                .install(|| {
 model.generate_with(&prompts[index..=index], &options[index..=index], plain.clone())
})
                .expect("an answer");
            prop_assert_eq!(answer, &alone[0], "request {}", index);
        }
    }
}

/// Every architecture, a large matrix, an adapter whose matrices are merged for sampling, and a base kept in bfloat16.
fn every_kind() -> Vec<Model> {
    let of = |architecture: &str, feed: usize| {
        let config = Config {
            model_type: architecture.into(),
            initializer_range: 0.25,
            max_position_embeddings: 256,
            head_dim: Some(8),
            ..Config::new(61, 24, feed, 2, 4, 2)
        };
        let model = Model::random(config, 3).expect("a model");
        for (index, parameter) in model.parameters().iter().enumerate() {
            let name = parameter.name();
            if name.ends_with("bias") || name.ends_with("norm.weight") {
                set(parameter, |at, value| value + 0.3 * ((at * 5 + index) as f32).sin());
            }
        }
        model
    };
    let adapted = |base: &Model| {
        let adapter = Adapter::new(LoraConfig { rank: 3, ..LoraConfig::default() }, base.config(), 1);
        let adapted = base.with_adapter(adapter.expect("an adapter")).expect("it fits");
        for (index, parameter) in adapted.parameters().iter().enumerate() {
            set(parameter, |at, value| value + 0.1 * ((at * 3 + index) as f32).sin());
        }
        adapted
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    of("qwen3", 400).save(folder.path()).expect("saving");
    let half = Model::load_as(folder.path(), Precision::Bfloat16).expect("loading");
    vec![
        model(true),
        model(false),
        of("qwen3", 400),
        of("llama", 40),
        adapted(&of("qwen2", 400)),
        adapted(&half),
        half,
    ]
}

#[test]
fn cached_decoding_gives_the_log_probs_of_a_full_pass() {
    for model in every_kind() {
        // Longer than a block of cached keys and than one pass of prompt tokens.
        let prompts: Vec<Vec<u32>> =
            vec![(0..130).map(|at| at * 7 % 61).collect(), vec![5], (0..130).map(|at| at * 7 % 61).collect()];
        let options: Vec<SamplingOptions> = (0..3)
            .map(|seed| SamplingOptions { maximum_new_tokens: 40, seed, ..SamplingOptions::default() })
            .collect();
        let together = GenerateOptions { prefill_tokens: 50, ..GenerateOptions::default() };
        let answers = model.generate_with(&prompts, &options, together).expect("answers");
        assert_ne!(answers[0].ids, answers[2].ids, "two seeds give two answers to one prompt");
        for (prompt, answer) in prompts.iter().zip(&answers) {
            let whole: Vec<u32> = prompt.iter().chain(&answer.ids).copied().collect();
            let rows: Vec<u32> = (prompt.len() as u32 - 1..whole.len() as u32 - 1).collect();
            let (want, _) =
                model.score_detached(&Packed::new(&[&whole]), &rows, &answer.ids, 1.0).expect("scores");
            for (got, want) in answer.log_probs.iter().zip(&want) {
                assert!((got - want).abs() < 1e-4, "{got} with the cache, {want} without");
            }
        }
    }
}

#[test]
fn events_are_the_answers_and_a_break_keeps_what_came() {
    let model = model(true);
    let prompts = vec![vec![1, 2, 3], vec![4], vec![1, 2, 3], vec![9]];
    let each = vec![greedy(6), greedy(3), greedy(9), greedy(0)];
    let whole = model.generate(&prompts, &each).expect("answers");
    let mut seen =
        vec![Generation { ids: Vec::new(), log_probs: Vec::new(), finished: Finish::Cancelled }; 4];
    let answers = model
        .generate_stream(&prompts, &each, GenerateOptions::default(), &mut |event| {
            match event {
                Event::Token { request, id, log_prob } => {
                    seen[request].ids.push(id);
                    seen[request].log_probs.push(log_prob);
                }
                Event::Finished { request, finish } => {
                    assert_eq!(seen[request].finished, Finish::Cancelled, "a request ends once");
                    seen[request].finished = finish;
                }
            }
            ControlFlow::Continue(())
        })
        .expect("answers");
    assert_eq!(answers, whole);
    assert_eq!(seen, whole);
    assert_eq!(whole[0].ids, whole[2].ids[..6]);
    assert_eq!(whole[3].ids, Vec::<u32>::new());

    let mut left = 5;
    let broken = model
        .generate_stream(&prompts, &each, GenerateOptions::default(), &mut |event| {
            left -= usize::from(matches!(event, Event::Token { .. }));
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("what came");
    assert_eq!(broken.iter().map(|answer| answer.ids.len()).sum::<usize>(), 5);
    for (broken, whole) in broken.iter().zip(&whole) {
        assert_eq!(broken.ids, whole.ids[..broken.ids.len()]);
    }
    assert_eq!(broken[2].finished, Finish::Cancelled);
}

#[test]
fn requests_come_and_go_while_others_run() {
    let model = model(false);
    let together = GenerateOptions { maximum_running: 2, ..GenerateOptions::default() };
    let want = model.generate(&[vec![1, 2, 3], vec![7; 30], vec![40]], &[greedy(5), greedy(8), greedy(4)]);
    let want = want.expect("answers");
    let mut generator = model.generator(together).expect("a generator");
    assert!(generator.is_idle());
    assert_eq!(generator.submit(&[1, 2, 3], &greedy(5)).expect("a number"), 0);
    let mut answers = vec![Vec::new(); 5];
    let mut steps = 0;
    while !generator.is_idle() {
        if steps == 2 {
            for (prompt, count) in [(vec![7; 30], 8), (vec![50], 100), (vec![50], 100), (vec![40], 4)] {
                generator.submit(&prompt, &greedy(count)).expect("a number");
            }
        }
        if steps == 9 {
            // One that runs, then the one that waits for its place.
            for request in [2, 3] {
                let event = generator.cancel(request);
                assert_eq!(event, Some(Event::Finished { request, finish: Finish::Cancelled }));
                assert_eq!(generator.cancel(request), None);
            }
        }
        let events = generator.step().expect("a step");
        let tokens = events.iter().filter(|event| matches!(event, Event::Token { .. })).count();
        assert!(tokens <= 2, "{tokens} requests ran at the same time");
        for event in events {
            if let Event::Token { request, id, .. } = event {
                assert!(steps < 9 || !(2..4).contains(&request), "a cancelled request went on");
                answers[request].push(id);
            }
        }
        steps += 1;
        assert!(steps < 60, "the queue does not empty");
    }
    for (request, want) in [(0, &want[0]), (1, &want[1]), (4, &want[2])] {
        assert_eq!(answers[request], want.ids, "request {request}");
    }
    assert!(!answers[2].is_empty() && answers[2].len() < 100);
}

#[test]
fn a_stop_string_ends_an_answer_across_ids() {
    let model = model(true);
    let prompt = vec![vec![1, 2, 3]];
    let whole = model.generate(&prompt, &[greedy(12)]).expect("an answer");
    // The text of id n is "<n>"; the stop string begins inside the fourth id and ends inside the fifth.
    let table: TokenBytes = (0..61).map(|id| format!("<{id}>")).collect();
    let stop = format!("{}><{}", whole[0].ids[3] % 10, whole[0].ids[4] / 10);
    let text: String = whole[0].ids.iter().map(|id| format!("<{id}>")).collect();
    let place = text.find(&stop).expect("it occurs");
    let options = SamplingOptions { stop_strings: vec!["never".into(), stop.clone()], ..greedy(12) };
    let together = GenerateOptions { token_bytes: Some(table.clone()), ..GenerateOptions::default() };
    let answer =
        &model.generate_with(&prompt, std::slice::from_ref(&options), together).expect("an answer")[0];
    assert_eq!(answer.finished, Finish::StopString);
    assert_eq!(answer.ids, whole[0].ids[..answer.ids.len()]);
    let kept: String = answer.ids.iter().map(|id| format!("<{id}>")).collect();
    assert!(kept.contains(&stop), "the id that completes the stop string stays");
    let shorter: String = answer.ids[..answer.ids.len() - 1].iter().map(|id| format!("<{id}>")).collect();
    assert!(!shorter.contains(&stop), "nothing comes after it");
    assert_eq!(table.text_before_stop(&answer.ids, &options.stop_strings), &text.as_bytes()[..place]);

    let error = model.generate(&prompt, &[options]).expect_err("no table of bytes");
    assert!(error.to_string().contains("stop strings"), "{error}");
}

#[test]
fn weights_that_are_not_numbers_are_an_error_that_names_the_request() {
    // Each place reaches the logits on another way; the softmax of attention alone would swallow a broken key.
    for name in
        ["self_attn.k_proj.weight", "self_attn.q_proj.bias", "mlp.up_proj.weight", "model.norm.weight"]
    {
        for broken in [f32::NAN, f32::INFINITY] {
            let model = model(true);
            let parameter = model
                .parameters()
                .iter()
                .find(|parameter| parameter.name().ends_with(name))
                .expect("a parameter of this name");
            set(parameter, |at, value| if at == 3 { broken } else { value });
            let error =
                model.generate(&[vec![1, 2]], &[greedy(4)]).expect_err("weights that are not numbers");
            assert!(matches!(error, ModelError::NotFiniteLogits { request: 0 }), "{name}: {error}");
            assert!(error.to_string().contains("request 0") && error.hint().is_some());
        }
    }
    // Only the request that meets the broken embedding fails, and the others go on.
    let model = model(false);
    let want = model.generate(&[vec![4, 5]], &[greedy(3)]).expect("an answer");
    set(&model.parameters()[0], |at, value| if at == 60 * 24 { f32::NAN } else { value });
    let mut generator = model.generator(GenerateOptions::default()).expect("a generator");
    generator.submit(&[4, 5], &greedy(3)).expect("a number");
    generator.submit(&[60, 5], &greedy(3)).expect("a number");
    generator.submit(&[5, 60], &greedy(3)).expect("a number");
    let (mut ids, mut broken) = (Vec::new(), Vec::new());
    while !generator.is_idle() {
        match generator.step() {
            Ok(events) => ids.extend(events.iter().filter_map(|event| match event {
                Event::Token { request: 0, id, .. } => Some(*id),
                _ => None,
            })),
            Err(ModelError::NotFiniteLogits { request }) => broken.push(request),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((ids, broken), (want[0].ids.clone(), vec![1, 2]));
}

#[test]
fn rounded_weights_give_the_answers_of_the_rounded_model() {
    let model = model(false);
    let rounded = model.duplicate().expect("a copy");
    for parameter in rounded.parameters() {
        // The embedding is looked up as it is.
        if parameter.rank() == 2 && parameter.name() != "model.embed_tokens.weight" {
            set(parameter, |_, value| half::bf16::from_f32(value).to_f32());
        }
    }
    let prompts: Vec<Vec<u32>> = (0..9).map(|at| vec![at, 2 * at, 60 - at]).collect();
    let each: Vec<SamplingOptions> = (0..9)
        .map(|seed| SamplingOptions { maximum_new_tokens: 20, seed, ..SamplingOptions::default() })
        .collect();
    let with = |model: &Model, precision| {
        model.generate_with(&prompts, &each, GenerateOptions { precision, ..GenerateOptions::default() })
    };
    let want = with(&rounded, DecodePrecision::Float32).expect("answers");
    // Apart from the order of additions, which is another one in small f32 matrices.
    for (got, want) in with(&model, DecodePrecision::Bfloat16).expect("answers").iter().zip(&want) {
        assert_eq!(got.ids, want.ids);
        for (got, want) in got.log_probs.iter().zip(&want.log_probs) {
            assert!((got - want).abs() < 2e-5, "{got}, with weights rounded beforehand {want}");
        }
    }

    // Bytes: how far the log-probability of the same first id moves. One step is 1/127 of an output's largest weight.
    let exact = with(&model, DecodePrecision::Float32).expect("answers");
    for (precision, bound) in [(DecodePrecision::Bfloat16, 0.05), (DecodePrecision::Int8, 0.1)] {
        let answers = with(&model, precision).expect("answers");
        let mut compared = 0;
        for (answer, exact) in answers.iter().zip(&exact) {
            let same = answer.ids.iter().zip(&exact.ids).take_while(|(a, b)| a == b).count();
            for (got, want) in answer.log_probs[..same].iter().zip(&exact.log_probs) {
                assert!((got - want).abs() < bound, "{precision:?}: {got}, in f32 {want}");
                compared += 1;
            }
        }
        assert!(compared >= 9, "{precision:?}: only {compared} ids are the same");
    }
}

#[test]
fn limits_that_let_nothing_run_are_refused_and_one_large_request_runs_alone() {
    let model = model(true);
    for together in [
        GenerateOptions { maximum_running: 0, ..GenerateOptions::default() },
        GenerateOptions { prefill_tokens: 0, ..GenerateOptions::default() },
    ] {
        assert!(model.generate_with(&[vec![1]], &[greedy(1)], together).is_err());
    }
    let together = GenerateOptions { maximum_cached_tokens: 4, ..GenerateOptions::default() };
    let answers = model.generate_with(&[vec![1; 40], vec![2; 30]], &[greedy(9), greedy(9)], together);
    assert!(answers.expect("answers").iter().all(|answer| answer.ids.len() == 9));
}
