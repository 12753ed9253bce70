//! Against transformers 5.23, whose processors give for these logits, after a softmax in f64, the numbers below:
//!
//! ```text
//! from transformers.generation.logits_process import *
//! logits = torch.tensor([[2.0, -1.0, 0.5, 3.0, 2.9, -0.2, 1.0, 0.0]])
//! for processor in processors: logits = processor(torch.tensor([[3, 1, 3, 6]]), logits)
//! torch.softmax(logits.double(), -1)
//! ```

use super::{Sampler, SamplingOptions};

const LOGITS: [f32; 8] = [2.0, -1.0, 0.5, 3.0, 2.9, -0.2, 1.0, 0.0];
const SEEN: [u32; 4] = [3, 1, 3, 6];

/// Shares of many draws, and each id's reported log-probability.
fn shares(options: &SamplingOptions, draws: usize) -> ([f64; 8], [Option<f32>; 8]) {
    let (mut counts, mut log_probs) = ([0.0; 8], [None; 8]);
    for seed in 0..draws as u64 {
        let mut sampler = Sampler::new(&SamplingOptions { seed, ..options.clone() }, &SEEN);
        let (id, log_prob) = sampler.choose(&mut LOGITS.clone()).expect("finite logits");
        counts[id as usize] += 1.0 / draws as f64;
        log_probs[id as usize] = Some(log_prob);
    }
    (counts, log_probs)
}

#[test]
fn cut_offs_and_penalty_are_those_of_transformers() {
    let plain = SamplingOptions::default();
    for (options, want) in [
        (
            SamplingOptions { repetition_penalty: 1.5, ..plain.clone() },
            [0.1914731, 0.005782, 0.0427234, 0.1914731, 0.4709478, 0.0212158, 0.0504718, 0.0259131],
        ),
        (
            SamplingOptions { repetition_penalty: 1.5, temperature: 0.7, ..plain.clone() },
            [0.1669238, 0.0011247, 0.0195834, 0.1669238, 0.6038053, 0.0072043, 0.0248479, 0.0095869],
        ),
        (
            SamplingOptions { temperature: 0.7, top_k: 3, ..plain.clone() },
            [0.1137658, 0.0, 0.0, 0.4747145, 0.4115197, 0.0, 0.0, 0.0],
        ),
        (
            SamplingOptions { temperature: 1.3, top_p: 0.8, ..plain.clone() },
            [0.1939327, 0.0, 0.0, 0.4185273, 0.38754, 0.0, 0.0, 0.0],
        ),
        (
            SamplingOptions { temperature: 1.3, min_p: 0.2, ..plain.clone() },
            [0.1779424, 0.0, 0.0, 0.3840184, 0.3555862, 0.0, 0.082453, 0.0],
        ),
        (
            SamplingOptions {
                repetition_penalty: 1.3,
                temperature: 0.8,
                top_k: 6,
                top_p: 0.9,
                min_p: 0.1,
                ..plain.clone()
            },
            [0.180204, 0.0, 0.0, 0.2647286, 0.5550674, 0.0, 0.0, 0.0],
        ),
    ] {
        let draws = 20_000;
        let (got, log_probs) = shares(&options, draws);
        let total: f64 = LOGITS.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        for id in 0..8 {
            // Five standard deviations; an id that is cut off never comes.
            let tolerance = 5.0 * (want[id] * (1.0 - want[id]) / draws as f64).sqrt();
            assert!(
                (got[id] - want[id]).abs() <= tolerance,
                "{options:?}: id {id} {}, expected {}",
                got[id],
                want[id]
            );
            // The log-probability is that of the logits before anything was done to them.
            if let Some(log_prob) = log_probs[id] {
                assert!((f64::from(log_prob) - (f64::from(LOGITS[id]) - total)).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn the_penalty_falls_on_ids_of_the_answer_too_and_without_temperature() {
    let options = SamplingOptions { repetition_penalty: 1.6, temperature: 0.0, ..SamplingOptions::default() };
    let mut sampler = Sampler::new(&options, &[7]);
    let ids: Vec<u32> =
        (0..4).map(|_| sampler.choose(&mut LOGITS.clone()).expect("finite logits").0).collect();
    // 3.0 and 2.9 become 1.875 and 1.81, then 2.0 becomes 1.25.
    assert_eq!(ids, [3, 4, 0, 3]);
}

#[test]
fn logits_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut logits = LOGITS;
        logits[5] = bad;
        assert_eq!(Sampler::new(&SamplingOptions::default(), &[]).choose(&mut logits), None);
    }
}

#[test]
fn options_out_of_range_are_named() {
    let plain = SamplingOptions::default();
    for (options, name) in [
        (SamplingOptions { temperature: -1.0, ..plain.clone() }, "temperature"),
        (SamplingOptions { temperature: f32::NAN, ..plain.clone() }, "temperature"),
        (SamplingOptions { top_p: 0.0, ..plain.clone() }, "top_p"),
        (SamplingOptions { min_p: 1.5, ..plain.clone() }, "min_p"),
        (SamplingOptions { min_p: f32::NAN, ..plain.clone() }, "min_p"),
        (SamplingOptions { repetition_penalty: 0.0, ..plain.clone() }, "repetition_penalty"),
        (SamplingOptions { stop_strings: vec![String::new()], ..plain.clone() }, "stop string"),
    ] {
        let error = options.check().expect_err("an option out of range").to_string();
        assert!(error.contains(name), "{error}");
    }
    plain.check().expect("the defaults are fine");
}
