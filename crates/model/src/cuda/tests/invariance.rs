//! What must not change a result: the order of blocks and threads, packing, checkpointing, accumulation, chunks of logits, resuming.
//! And how far bf16 may be from f32.

use super::emulator::Emulator;
use super::{batch, distance, engine, noise, small};
use crate::cuda::*;

type Gradients = Vec<(String, Vec<f32>)>;

/// Runs the sequences forward and backward, one pass each call of the list, with a gradient of log-probabilities, of entropies and of
/// the hidden states; gives the scores and every gradient.
fn gradients<D: Driver>(
    engine: &mut Engine<D>,
    passes: &[(Vec<u32>, Vec<u32>)],
    dropout: Option<u64>,
) -> (Vec<f32>, Gradients) {
    engine.zero_gradients().expect("zeroed");
    let mut all = Vec::new();
    let mut seen = 0;
    for (ids, offsets) in passes {
        let options = PassOptions { keep: true, dropout, ..PassOptions::default() };
        let mut pass = engine.forward(ids, offsets, options).expect("forward");
        let rows: Vec<u32> = (0..ids.len() as u32).collect();
        let scores = engine.score(&pass, &rows, ids, 0.7).expect("scores");
        // Slopes belong to tokens, wherever they are packed.
        let slope =
            |seed: u64, width: usize| noise((seen + ids.len()) * width, seed)[seen * width..].to_vec();
        engine.score_backward(&mut pass, &scores, &slope(5, 1), &slope(6, 1)).expect("head");
        engine.add_hidden_gradient(&mut pass, &slope(7, engine.sizes().hidden)).expect("hidden");
        engine.backward(pass).expect("backward");
        all.extend(scores.log_prob.iter().chain(&scores.entropy).copied());
        seen += ids.len();
    }
    let names: Vec<String> = engine.trained().iter().map(|(name, _)| name.to_string()).collect();
    let read = |name: String| {
        let gradient = engine.read(&name, Part::Gradient).expect("a gradient");
        (name, gradient)
    };
    (all, names.into_iter().map(read).collect())
}

pub(super) fn exact(trained: Trained) -> Settings {
    Settings { precision: Precision::F32, trained, ..Settings::default() }
}

fn adapter(dropout: f32) -> Trained {
    Trained::Adapter(AdapterSettings { rank: 4, scale: 0.5, modules: Module::ALL.to_vec(), dropout })
}

/// The largest distance between gradients of the same name.
fn apart(got: &Gradients, want: &Gradients) -> f64 {
    assert_eq!(got.len(), want.len());
    let mut most = 0.0f64;
    for ((name, got), (other, want)) in got.iter().zip(want) {
        assert_eq!(name, other);
        // A key's bias has no gradient but rounding.
        if !name.ends_with("k_proj.bias") {
            most = most.max(distance(got, want));
        }
    }
    most
}

#[test]
fn order_of_blocks_and_threads_changes_no_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        for trained in [Trained::All, adapter(0.2)] {
            let sizes = small(16, trained == Trained::All, true);
            let results = [false, true].map(|descending| {
                let open = move |precision, width| {
                    let mut emulator = Emulator::new(precision, width)?;
                    emulator.descending = descending;
                    Some(emulator)
                };
                let settings = Settings { precision, ..exact(trained.clone()) };
                let mut engine = engine(&open, &sizes, settings, 3)?;
                let results = gradients(&mut engine, &[batch(&sizes, &[70, 5], 1)], Some(9));
                let mut cache = engine.cache(2, 160).expect("a cache");
                let (ids, _) = batch(&sizes, &[140], 2);
                engine.prefill(&mut cache, &[1], &[&ids], AdapterUse::Apart).expect("the prompt");
                let logits = engine.decode(&mut cache, &[1], &[3], AdapterUse::Apart).expect("a step");
                let drawn = engine.sample(&logits, &[Draw { temperature: 0.8, seed: 5 }]).expect("a draw");
                let logits = (engine.read_logits(&logits).expect("logits"), drawn);
                engine
                    .step(&StepNumbers {
                        rate: 1e-2,
                        beta1: 0.9,
                        beta2: 0.95,
                        epsilon: 1e-8,
                        weight_decay: 0.1,
                        clip_norm: 1.0,
                    })
                    .expect("a step");
                let name = engine.trained()[0].0.to_string();
                let value = engine.read(&name, Part::Value).expect("a value");
                Some((results, logits, value))
            });
            assert!(
                results[0] == results[1],
                "{precision:?}: a kernel depends on the order of its blocks or threads"
            );
        }
    }
}

#[test]
fn packing_checkpointing_accumulation_and_chunks_change_rounding_only() {
    for trained in [Trained::All, adapter(0.0)] {
        let sizes = small(8, trained == Trained::All, trained == Trained::All);
        let (lengths, together) = ([66, 1, 20], batch(&small(8, true, true), &[66, 1, 20], 1));
        let mut alone = Vec::new();
        for (pair, length) in together.1.windows(2).zip(lengths) {
            alone.push((together.0[pair[0] as usize..pair[1] as usize].to_vec(), vec![0, length as u32]));
        }
        let run = |settings: Settings, passes: &[(Vec<u32>, Vec<u32>)]| {
            engine(&Emulator::new, &sizes, settings, 3).map(|mut engine| gradients(&mut engine, passes, None))
        };
        let Some((_, plain)) = run(exact(trained.clone()), std::slice::from_ref(&together)) else { return };
        let checkpointed = Settings { checkpointing: true, ..exact(trained.clone()) };
        let (_, other) = run(checkpointed, std::slice::from_ref(&together)).expect("as before");
        assert!(other == plain, "checkpointing computes the same numbers again");
        let (_, other) = run(exact(trained.clone()), &alone).expect("as before");
        assert!(apart(&other, &plain) <= 1e-5, "one at a time: {}", apart(&other, &plain));
        let chunked = Settings { logits: 1, ..exact(trained.clone()) };
        let (_, other) = run(chunked, std::slice::from_ref(&together)).expect("as before");
        assert!(apart(&other, &plain) <= 1e-5, "chunks of logits: {}", apart(&other, &plain));
        assert!(plain.iter().all(|(_, gradient)| gradient.iter().any(|&number| number != 0.0)));
    }
}

/// Beyond 512 rows a block goes through several, and beyond 32 equal ids their sum is cut into pieces.
#[test]
fn more_rows_than_blocks() {
    for bias in [true, false] {
        let sizes = Sizes { vocabulary: 5, layers: 1, ..small(8, bias, true) };
        let lengths = [230, 1, 200, 190];
        let together = batch(&sizes, &lengths, 1);
        let alone: Vec<(Vec<u32>, Vec<u32>)> = (together.1.windows(2).zip(lengths))
            .map(|(pair, length)| {
                (together.0[pair[0] as usize..pair[1] as usize].to_vec(), vec![0, length as u32])
            })
            .collect();
        let Some(mut first) = engine(&Emulator::new, &sizes, exact(Trained::All), 3) else { return };
        let (scores, packed) = gradients(&mut first, std::slice::from_ref(&together), None);
        let mut second = engine(&Emulator::new, &sizes, exact(Trained::All), 3).expect("as before");
        let (_, single) = gradients(&mut second, &alone, None);
        assert_eq!(scores.len(), 2 * 621);
        assert!(apart(&packed, &single) <= 1e-5, "{}", apart(&packed, &single));
        let norm = first.gradient_norm().expect("norm");
        let squares: f64 =
            packed.iter().flat_map(|(_, gradient)| gradient).map(|&number| f64::from(number).powi(2)).sum();
        assert!((norm - squares.sqrt()).abs() <= 1e-5 * norm, "norm {norm}, not {}", squares.sqrt());
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_scores() {
    // With dropout, which no other program reproduces: the same seed drops the same numbers in both evaluations.
    let sizes = small(8, false, false);
    let Some(engine) = engine(&Emulator::new, &sizes, exact(adapter(0.3)), 3) else { return };
    let (ids, offsets) = batch(&sizes, &[12, 7], 4);
    let rows: Vec<u32> = (0..ids.len() as u32).collect();
    let (slopes, dentropy) = (noise(rows.len(), 1), noise(rows.len(), 2));
    let options = PassOptions { keep: true, dropout: Some(11), ..PassOptions::default() };
    let objective = |engine: &Engine<Emulator>, options| -> f64 {
        let pass = engine.forward(&ids, &offsets, options).expect("forward");
        let scores = engine.score(&pass, &rows, &ids, 1.3).expect("scores");
        let sum = |values: &[f32], slopes: &[f32]| -> f64 {
            values.iter().zip(slopes).map(|(value, slope)| f64::from(*value) * f64::from(*slope)).sum()
        };
        sum(&scores.log_prob, &slopes) + sum(&scores.entropy, &dentropy)
    };
    let mut pass = engine.forward(&ids, &offsets, options).expect("forward");
    let scores = engine.score(&pass, &rows, &ids, 1.3).expect("scores");
    engine.score_backward(&mut pass, &scores, &slopes, &dentropy).expect("head");
    engine.backward(pass).expect("backward");
    let plain = PassOptions { dropout: None, ..options };
    assert!((objective(&engine, options) - objective(&engine, plain)).abs() > 1e-3, "dropout does nothing");
    let names: Vec<String> = engine.trained().iter().map(|(name, _)| name.to_string()).collect();
    for name in names {
        let gradient = engine.read(&name, Part::Gradient).expect("a gradient");
        let value = engine.read(&name, Part::Value).expect("a value");
        let norm = gradient.iter().map(|number| number * number).sum::<f32>().sqrt();
        // Along the gradient itself, whose slope is its norm.
        let moved = |by: f32| {
            let there: Vec<f32> =
                value.iter().zip(&gradient).map(|(value, slope)| value + by * slope / norm).collect();
            engine.write(&name, Part::Value, &there).expect("written");
            objective(&engine, options)
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        moved(0.0);
        assert!(
            (slope - f64::from(norm)).abs() <= 0.02 * f64::from(norm),
            "{name}: slope {slope}, norm {norm}"
        );
    }
}

#[test]
fn bf16_stays_near_f32() {
    for (bias, tied) in [(true, true), (false, false)] {
        let sizes = small(64, bias, tied);
        let passes = [batch(&sizes, &[70, 9], 1)];
        let run = |precision| {
            let settings = Settings { precision, ..exact(Trained::All) };
            engine(&Emulator::new, &sizes, settings, 3)
                .map(|mut engine| gradients(&mut engine, &passes, None))
        };
        let (Some((exact, dexact)), Some((rounded, drounded))) = (run(Precision::F32), run(Precision::Bf16))
        else {
            return;
        };
        let off = distance(&rounded, &exact);
        println!("scores {off:.1e}, gradients {:.1e}", apart(&drounded, &dexact));
        assert!(off <= 1e-2, "scores are {off} apart");
        assert!(apart(&drounded, &dexact) <= 5e-2, "gradients are {} apart", apart(&drounded, &dexact));
    }
}

#[test]
fn bf16_training_keeps_f32_masters() {
    let sizes = small(16, true, true);
    let settings = Settings { precision: Precision::Bf16, ..exact(Trained::All) };
    let Some(mut engine) = engine(&Emulator::new, &sizes, settings, 3) else { return };
    let name = "model.layers.0.mlp.up_proj.weight";
    let before = engine.read(name, Part::Value).expect("a value");
    let passes = [batch(&sizes, &[30], 1)];
    let (first, _) = gradients(&mut engine, &passes, None);
    // Far below what bf16 can hold: only a master copy moves.
    let step =
        StepNumbers { rate: 1e-6, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.0, clip_norm: 1.0 };
    engine.step(&step).expect("a step");
    let after = engine.read(name, Part::Value).expect("a value");
    let most =
        before.iter().zip(&after).fold(0.0f32, |most, (before, after)| most.max((before - after).abs()));
    assert!((0.5e-6..2e-6).contains(&most), "moved by {most}");
    for _ in 0..30 {
        engine.step(&StepNumbers { rate: 1e-2, ..step }).expect("a step");
    }
    let (later, _) = gradients(&mut engine, &passes, None);
    assert!(first != later, "the rounded copy follows the master");
}

#[test]
fn resuming_is_exact() {
    let sizes = small(8, true, false);
    let step =
        StepNumbers { rate: 1e-2, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 1.0 };
    for precision in [Precision::F32, Precision::Bf16] {
        let settings = Settings { precision, ..exact(Trained::All) };
        let train = |engine: &mut Engine<Emulator>, steps: std::ops::Range<u64>| {
            for seed in steps {
                gradients(engine, &[batch(&sizes, &[11, 4], seed)], None);
                engine.step(&step).expect("a step");
            }
        };
        let Some(mut whole) = engine(&Emulator::new, &sizes, settings.clone(), 3) else { return };
        train(&mut whole, 0..4);
        let mut first = engine(&Emulator::new, &sizes, settings.clone(), 3).expect("as before");
        train(&mut first, 0..2);
        let mut second = engine(&Emulator::new, &sizes, settings, 4).expect("as before");
        let names: Vec<String> = first.trained().iter().map(|(name, _)| name.to_string()).collect();
        for name in &names {
            for part in [Part::Value, Part::Mean, Part::Square] {
                second.write(name, part, &first.read(name, part).expect("read")).expect("written");
            }
        }
        second.set_steps(first.steps());
        train(&mut second, 2..4);
        for name in &names {
            for part in [Part::Value, Part::Mean, Part::Square] {
                assert!(
                    whole.read(name, part).expect("read") == second.read(name, part).expect("read"),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn the_estimate_of_memory_is_near_the_peak() {
    let sizes =
        |vocabulary| Sizes { vocabulary, hidden: 64, feed_forward: 160, layers: 3, ..small(16, false, true) };
    for (vocabulary, logits) in [(97, 1 << 20), (4000, 1 << 16)] {
        let sizes = sizes(vocabulary);
        for trained in [Trained::All, adapter(0.0)] {
            for checkpointing in [false, true] {
                for precision in [Precision::F32, Precision::Bf16] {
                    let settings = Settings { precision, trained: trained.clone(), checkpointing, logits };
                    let Some(mut engine) = engine(&Emulator::new, &sizes, settings.clone(), 3) else {
                        return;
                    };
                    let step = StepNumbers {
                        rate: 1e-3,
                        beta1: 0.9,
                        beta2: 0.95,
                        epsilon: 1e-8,
                        weight_decay: 0.1,
                        clip_norm: 1.0,
                    };
                    let passes = [batch(&sizes, &[60, 20, 40], 1)];
                    for _ in 0..2 {
                        gradients(&mut engine, &passes, None);
                        engine.step(&step).expect("a step");
                    }
                    let (need, peak) = (sizes.training_memory(&settings, 120, 120), engine.driver().peak());
                    let ratio = need.total() as f64 / peak as f64;
                    println!(
                        "{vocabulary} {trained:?} {checkpointing} {precision:?}: {need:?} of {peak}: {ratio:.3}"
                    );
                    assert!((0.9..1.1).contains(&ratio), "estimate / peak is {ratio}");
                }
            }
        }
    }
}
