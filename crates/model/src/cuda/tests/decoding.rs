//! Decoding: shared prompts, and draws.

use super::emulator::Emulator;
use super::invariance::exact;
use super::{batch, distance, engine, small};
use crate::cuda::*;

#[test]
fn a_shared_prompt_decodes_as_its_own() {
    for precision in [Precision::F32, Precision::Bf16] {
        let sizes = small(16, false, true);
        let settings = Settings { precision, trained: Trained::Nothing, ..Settings::default() };
        let Some(engine) = engine(&Emulator::new, &sizes, settings, 3) else { return };
        let (prompt, _) = batch(&sizes, &[150], 2);
        let mut cache = engine.cache(3, 200).expect("a cache");
        engine.prefill(&mut cache, &[0], &[&prompt], AdapterUse::Apart).expect("the prompt");
        engine.share(&mut cache, 0, &[2, 1], 150).expect("shared");
        engine.decode(&mut cache, &[1], &[7], AdapterUse::Apart).expect("a step");
        let together = engine.decode(&mut cache, &[1, 0, 2], &[8, 7, 7], AdapterUse::Apart).expect("a step");
        let together = engine.read_logits(&together).expect("logits");
        let mut own = engine.cache(1, 200).expect("a cache");
        engine.prefill(&mut own, &[0], &[&prompt], AdapterUse::Apart).expect("the prompt");
        let alone = engine.decode(&mut own, &[0], &[7], AdapterUse::Apart).expect("a step");
        let alone = engine.read_logits(&alone).expect("logits");
        let vocabulary = sizes.vocabulary;
        assert!(together[vocabulary..2 * vocabulary] == together[2 * vocabulary..]);
        // Another number of texts may cut the keys into other parts, which changes rounding only.
        assert!(
            distance(&together[vocabulary..2 * vocabulary], &alone)
                <= if precision == Precision::F32 { 1e-6 } else { 1e-2 }
        );
        let whole = [&prompt[..], &[7, 8]].concat();
        let pass = engine.forward(&whole, &[0, 152], PassOptions::default()).expect("forward");
        let logits = engine.logits(&pass).expect("logits");
        let off = distance(&together[..vocabulary], &logits[151 * vocabulary..]);
        assert!(off <= if precision == Precision::F32 { 1e-5 } else { 2e-2 }, "{off}");
    }
}

#[test]
fn draws_follow_the_distribution() {
    let sizes = small(8, true, true);
    let settings = Settings { trained: Trained::Nothing, ..exact(Trained::All) };
    let Some(engine) = engine(&Emulator::new, &sizes, settings, 3) else { return };
    let mut cache = engine.cache(1, 8).expect("a cache");
    let logits = engine.prefill(&mut cache, &[0], &[&[1, 2, 3]], AdapterUse::Apart).expect("the prompt");
    let row = engine.read_logits(&logits).expect("logits");
    let (temperature, count) = (0.6f32, 4000);
    let weights: Vec<f64> = row.iter().map(|&logit| f64::from(logit / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut seen = vec![0usize; row.len()];
    for seed in 0..count {
        let draw = Draw { temperature, seed: seed << 20 };
        let first = engine.sample(&logits, &[draw]).expect("a draw");
        if seed < 3 {
            assert_eq!(first, engine.sample(&logits, &[draw]).expect("a draw"), "the same seed, the same id");
        }
        seen[first[0].0 as usize] += 1;
    }
    // χ² over the ids: its mean is one less than their number and its deviation √(2 · that); six deviations.
    let square: f64 = seen
        .iter()
        .zip(&weights)
        .map(|(&seen, weight)| {
            let wanted = weight / total * count as f64;
            (seen as f64 - wanted).powi(2) / wanted
        })
        .sum();
    let freedom = (row.len() - 1) as f64;
    println!("χ² {square:.1} with {freedom} degrees of freedom");
    assert!((square - freedom).abs() <= 6.0 * (2.0 * freedom).sqrt(), "χ² {square} for {freedom}");
    let refused = engine.sample(&logits, &[Draw { temperature: f32::NAN, seed: 0 }]);
    assert!(refused.expect_err("NaN").to_string().contains("temperature of NaN"));
}
