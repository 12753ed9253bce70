//! Times on a GPU, at the sizes of Qwen2.5-Coder-0.5B with random weights. Ignored: it measures and asserts nothing but that the
//! numbers are finite. `cargo test --release -p vul2safe-model --features cuda gpu_speed -- --ignored --nocapture`;
//! `tools/bench_gpu.py` measures the same with torch.

use std::time::Instant;

use super::gpu::gpu;
use super::{batch, noise};
use crate::cuda::launch::{AttentionGradient, HeadCounts, Kernels};
use crate::cuda::*;

/// What is measured: a model and sequences, and sizes of products.
struct Work {
    sizes: Sizes,
    sequences: Vec<usize>,
    products: Vec<(usize, usize, usize)>,
    texts: Vec<usize>,
    prompt: usize,
    rounds: usize,
}

/// The real work, or on the stand-in a little, which shows that all of it runs.
fn work(device: &DeviceInfo) -> Work {
    if device.name == "stand-in" {
        let sizes = Sizes {
            vocabulary: 130,
            hidden: 64,
            feed_forward: 96,
            layers: 2,
            heads: 2,
            key_heads: 1,
            ..half_a_billion()
        };
        return Work {
            sizes,
            sequences: vec![40, 30],
            products: vec![(8, 16, 24)],
            texts: vec![1, 3],
            prompt: 20,
            rounds: 3,
        };
    }
    Work {
        sizes: half_a_billion(),
        sequences: vec![1024; 8],
        products: vec![(8192, 8192, 8192), (8192, 9728, 896), (8192, 896, 4864)],
        texts: vec![1, 16, 64],
        prompt: 256,
        rounds: 101,
    }
}

fn half_a_billion() -> Sizes {
    Sizes {
        vocabulary: 151_936,
        hidden: 896,
        feed_forward: 4864,
        layers: 24,
        heads: 14,
        key_heads: 2,
        head_width: 64,
        epsilon: 1e-6,
        tied: true,
        bias: true,
        head_norms: false,
        inverse_frequencies: (0..32).map(|i| 1e6f32.powf(-(i as f32) / 32.0)).collect(),
        rotary_factor: 1.0,
        positions: 4096,
    }
}

/// The median of `rounds` times in milliseconds, after two that do not count. The device is waited for around each.
fn milliseconds<D: Driver>(driver: &D, rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds + 2)
        .map(|_| {
            driver.synchronize().expect("the device is at rest");
            let start = Instant::now();
            work();
            driver.synchronize().expect("the work is done");
            start.elapsed().as_secs_f64() * 1e3
        })
        .skip(2)
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

#[test]
#[ignore = "measures a GPU"]
fn gpu_speed() {
    let Some(driver) = gpu(Precision::Bf16, 64) else { return };
    let info = driver.info().expect("info");
    println!("device: {info:?}");
    let work = work(&info);
    let kernels = Kernels::new(driver);
    products(&kernels, &work);
    attention(&kernels, &work);
    drop(kernels);
    let adapter = AdapterSettings { rank: 16, scale: 2.0, modules: Module::ALL.to_vec(), dropout: 0.0 };
    for (name, trained, checkpointing) in [
        ("everything", Trained::All, false),
        ("everything, checkpointed", Trained::All, true),
        ("LoRA 16", Trained::Adapter(adapter.clone()), false),
        ("LoRA 16, checkpointed", Trained::Adapter(adapter), true),
    ] {
        let settings = Settings { trained, checkpointing, ..Settings::default() };
        let sizes = work.sizes.clone();
        let shapes = sizes.parameters();
        let lengths: std::collections::HashMap<String, usize> = (shapes.0.into_iter().chain(shapes.1))
            .map(|(name, shape)| (name, shape.iter().product()))
            .chain(match &settings.trained {
                Trained::Adapter(adapter) => sizes
                    .adapter(adapter)
                    .into_iter()
                    .map(|(name, shape)| (name, shape.iter().product()))
                    .collect(),
                _ => Vec::new(),
            })
            .collect();
        // One stretch of noise over and over: making half a billion numbers would take longer than the measurement.
        let pattern: Vec<f32> = noise(1_000_003, 1).into_iter().map(|number| 0.03 * number).collect();
        let driver = gpu(Precision::Bf16, 64).expect("as before");
        let mut engine = Engine::new(driver, sizes, settings, &mut |name| {
            let centre = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            Ok(pattern.iter().cycle().take(lengths[name]).map(|number| centre + number).collect())
        })
        .expect("the model loads");
        training(&mut engine, name, &work);
        if name == "everything" {
            decoding(&engine, &work);
        }
    }
}

fn products<D: Driver>(kernels: &Kernels<D>, work: &Work) {
    for &(rows, columns, depth) in &work.products {
        let array = |count: usize, seed| {
            let array = kernels.reals(count).expect("memory");
            let pattern = noise(65_537, seed);
            let numbers: Vec<f32> = pattern.iter().cycle().take(count).copied().collect();
            kernels.write(array.view(), &numbers).expect("written");
            array
        };
        let (left, right) = (array(rows * depth, 1), array(columns * depth, 2));
        let out = kernels.reals(rows * columns).expect("memory");
        let time = milliseconds(&kernels.driver, 11, || {
            let right = right.view().matrix(columns, depth).transposed();
            kernels
                .product(out.view().matrix(rows, columns), left.view().matrix(rows, depth), right, 1.0, 0.0)
                .expect("a product");
        });
        let rate = 2.0 * (rows * columns * depth) as f64 / time / 1e9;
        println!("product {rows} × {columns} × {depth}: {time:.3} ms, {rate:.0} TFLOP/s");
    }
}

fn attention<D: Driver>(kernels: &Kernels<D>, work: &Work) {
    let heads = HeadCounts { queries: work.sizes.heads, keys: work.sizes.key_heads };
    let width = work.sizes.head_width;
    let (tokens, row) = (work.sequences.iter().sum::<usize>(), (heads.queries + 2 * heads.keys) * width);
    let (_, offsets) = batch(&work.sizes, &work.sequences, 1);
    let array = |count: usize, seed| {
        let array = kernels.reals(count).expect("memory");
        kernels.write(array.view(), &noise(count, seed)).expect("written");
        array
    };
    let (qkv, dout) = (array(tokens * row, 1), array(tokens * heads.queries * width, 2));
    let (out, dqkv) = (
        kernels.reals(tokens * heads.queries * width).expect("memory"),
        kernels.reals(tokens * row).expect("memory"),
    );
    let log_sum = kernels.floats(tokens * heads.queries).expect("memory");
    let tiles = kernels.tiles(&offsets).expect("tiles");
    let forward = milliseconds(&kernels.driver, 11, || {
        kernels.attention(out.view(), log_sum.view(), qkv.view(), &tiles, (tokens, heads)).expect("forward");
    });
    let given = AttentionGradient {
        qkv: qkv.view(),
        out: out.view(),
        dout: dout.view(),
        log_sum: log_sum.view(),
        tiles: &tiles,
        tokens,
        heads,
    };
    let backward = milliseconds(&kernels.driver, 11, || {
        kernels.attention_backward(dqkv.view(), &given).expect("backward");
    });
    // Two products forward, seven backward, each over half the square.
    let squares: usize = work.sequences.iter().map(|length| length * length).sum();
    let operations = (heads.queries * squares * width) as f64;
    println!(
        "attention, {tokens} tokens: forward {forward:.3} ms ({:.0} TFLOP/s), backward {backward:.3} ms ({:.0} TFLOP/s)",
        2.0 * operations / forward / 1e9,
        7.0 * operations / backward / 1e9
    );
}

fn training(engine: &mut Engine<CudaDriver>, name: &str, work: &Work) {
    let (ids, offsets) = batch(engine.sizes(), &work.sequences, 1);
    let rows: Vec<u32> = (0..ids.len() as u32).filter(|row| !offsets.contains(&(row + 1))).collect();
    let targets: Vec<u32> = rows.iter().map(|&row| ids[row as usize + 1]).collect();
    let slopes = vec![-1.0 / rows.len() as f32; rows.len()];
    let zeros = vec![0.0; rows.len()];
    let settings =
        StepNumbers { rate: 1e-5, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 1.0 };
    let mut parts: [Vec<f64>; 5] = Default::default();
    let mut losses = Vec::new();
    for round in 0..7 {
        let mut start = Instant::now();
        let mut lap = |engine: &Engine<CudaDriver>, part: usize| {
            engine.driver().synchronize().expect("done");
            if round > 1 {
                parts[part].push(start.elapsed().as_secs_f64() * 1e3);
            }
            start = Instant::now();
        };
        engine.zero_gradients().expect("zeroed");
        let options = PassOptions { keep: true, ..PassOptions::default() };
        let mut pass = engine.forward(&ids, &offsets, options).expect("forward");
        lap(engine, 0);
        let scores = engine.score(&pass, &rows, &targets, 1.0).expect("scores");
        lap(engine, 1);
        engine.score_backward(&mut pass, &scores, &slopes, &zeros).expect("head");
        lap(engine, 2);
        engine.backward(pass).expect("backward");
        lap(engine, 3);
        let norm = engine.step(&settings).expect("a step");
        lap(engine, 4);
        assert!(norm.is_finite(), "norm {norm}");
        losses.push(-scores.log_prob.iter().sum::<f32>() / rows.len() as f32);
    }
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let medians = parts.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let total: f64 = medians.iter().sum();
    let info = engine.driver().info().expect("info");
    println!(
        "training, {name}: {total:.1} ms, {:.0} tokens/s; forward, score, its backward, backward, step: {medians:.1?} ms; \
         {:.1} GiB taken; losses {losses:.3?}",
        ids.len() as f64 / total * 1e3,
        (info.total - info.free) as f64 / f64::from(1 << 30)
    );
}

fn decoding(engine: &Engine<CudaDriver>, work: &Work) {
    for &count in &work.texts {
        let (prompt, _) = batch(engine.sizes(), &[work.prompt], 2);
        let mut cache = engine.cache(count, 2 * work.prompt).expect("a cache");
        let slots: Vec<usize> = (0..count).collect();
        let prompts: Vec<&[u32]> = slots.iter().map(|_| &prompt[..]).collect();
        let draws: Vec<Draw> = (0..count as u64).map(|seed| Draw { temperature: 1.0, seed }).collect();
        let mut logits =
            engine.prefill(&mut cache, &slots, &prompts, AdapterUse::Apart).expect("the prompts");
        let time = milliseconds(engine.driver(), work.rounds, || {
            let drawn = engine.sample(&logits, &draws).expect("draws");
            let ids: Vec<u32> = drawn.into_iter().map(|(id, _)| id).collect();
            logits = engine.decode(&mut cache, &slots, &ids, AdapterUse::Apart).expect("a step");
        });
        println!("decoding, {count} texts: {time:.2} ms a step, {:.0} tokens/s", count as f64 / time * 1e3);
    }
}
