//! Requests that contradict themselves or the model, each with what is said.

use super::emulator::Emulator;
use super::invariance::exact;
use super::{engine, small};
use crate::cuda::*;

#[test]
fn bad_requests_are_refused() {
    let sizes = small(8, true, true);
    let settings = exact(Trained::All);
    let Some(mut engine) = engine(&Emulator::new, &sizes, settings.clone(), 3) else { return };
    let says = |result: Result<(), DeviceError>, what: &str| {
        let message = result.expect_err(what).to_string();
        assert!(message.contains(what), "{message:?} does not say {what:?}");
    };
    let keep = PassOptions { keep: true, ..PassOptions::default() };
    let forward = |ids: &[u32], offsets: &[u32]| engine.forward(ids, offsets, keep).map(|_| ());
    says(forward(&[1, 2], &[0, 1]), "do not partition 2 tokens");
    says(forward(&[], &[0]), "no tokens");
    says(forward(&[1, 97], &[0, 2]), "token id 97 at place 1");
    says(forward(&[1; 300], &[0, 300]), "300 tokens, the model 256 positions");
    let mut pass = engine.forward(&[1, 2, 3], &[0, 3], keep).expect("forward");
    says(engine.score(&pass, &[3], &[1], 1.0).map(|_| ()), "row 3 of 3");
    says(engine.score(&pass, &[0], &[97], 1.0).map(|_| ()), "token id 97");
    says(engine.score(&pass, &[0], &[1], 0.0).map(|_| ()), "temperature of 0");
    let scores = engine.score(&pass, &[0], &[1], 1.0).expect("scores");
    says(engine.score_backward(&mut pass, &scores, &[], &[]), "0 and 0 gradients for 1");
    let mut shorter = engine.forward(&[1], &[0, 1], keep).expect("forward");
    says(engine.score_backward(&mut shorter, &scores, &[0.0], &[0.0]), "a pass of 3 tokens, for one of 1");
    says(engine.add_hidden_gradient(&mut pass, &[0.0]), "1 numbers for 120");
    let mut fresh = engine.forward(&[1], &[0, 1], keep).expect("forward");
    fresh.dhidden = None;
    says(engine.backward(fresh), "without any gradient");
    let other = engine.forward(&[1], &[0, 1], PassOptions::default()).expect("forward");
    says(engine.backward(other), "a forward pass that keeps");
    says(engine.read("lm_head.weight", Part::Value).map(|_| ()), "no parameter lm_head.weight");
    says(engine.write("model.norm.weight", Part::Value, &[1.0]), "1 numbers for 40");
    let mut cache = engine.cache(2, 3).expect("a cache");
    says(engine.decode(&mut cache, &[0], &[1], AdapterUse::Apart).map(|_| ()), "holds 0 of 3");
    says(
        engine.prefill(&mut cache, &[0], &[&[1, 2, 3, 4]], AdapterUse::Apart).map(|_| ()),
        "4 tokens for slot 0",
    );
    says(engine.prefill(&mut cache, &[1, 1], &[&[1], &[2]], AdapterUse::Apart).map(|_| ()), "named twice");
    engine.prefill(&mut cache, &[0], &[&[1, 2, 3]], AdapterUse::Apart).expect("the prompt");
    says(engine.decode(&mut cache, &[0], &[1], AdapterUse::Apart).map(|_| ()), "holds 3 of 3");
    says(engine.share(&mut cache, 0, &[1], 4), "4 tokens of slot 0");
    says(engine.cache(1, 300).map(|_| ()), "256 positions");

    says(engine.merge(), "no adapter to merge");
    let merged = PassOptions { adapter: AdapterUse::Merged, ..keep };
    says(engine.forward(&[1], &[0, 1], merged).map(|_| ()), "which have no gradient");

    let wider = super::engine(&Emulator::new, &Sizes { key_heads: 4, ..sizes.clone() }, settings.clone(), 3)
        .expect("as before");
    let mut other = wider.cache(2, 3).expect("a cache");
    says(engine.prefill(&mut other, &[0], &[&[1]], AdapterUse::Off).map(|_| ()), "a cache of another model");

    let refuse = |sizes: Sizes, what: &str| {
        let driver = Emulator::new(Precision::F32, 8).expect("as before");
        let settings = settings.clone();
        says(Engine::new(driver, sizes, settings, &mut |_| Ok(Vec::new())).map(|_| ()), what);
    };
    refuse(Sizes { hidden: 36, ..sizes.clone() }, "hidden_size is 36");
    refuse(Sizes { key_heads: 3, ..sizes.clone() }, "do not share 3");
    refuse(Sizes { head_width: 16, ..sizes.clone() }, "4 rotary frequencies for a head of 16");
    refuse(small(16, true, true), "compiled for F32 and heads of 8");
    refuse(sizes.clone(), "model.embed_tokens.weight has 0 numbers");
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let sizes = small(8, true, true);
    let Some(mut engine) = engine(&Emulator::new, &sizes, exact(Trained::All), 3) else { return };
    let (name, step) = (
        "model.layers.1.mlp.down_proj.weight",
        StepNumbers { rate: 1e-2, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 1.0 },
    );
    let refused = engine.step(&step).expect_err("no backward pass was run");
    assert!(refused.to_string().contains("without a gradient"), "{refused}");
    let mut gradient = vec![0.5; sizes.hidden * sizes.feed_forward];
    engine.write(name, Part::Gradient, &gradient).expect("written");
    let norm = engine.step(&step).expect("a step");
    assert!((norm - 0.5 * (gradient.len() as f64).sqrt()).abs() <= 1e-4 * norm, "{norm}");
    let before = engine.read(name, Part::Value).expect("a value");
    for wrong in [f32::NAN, f32::INFINITY] {
        gradient[7] = wrong;
        engine.write(name, Part::Gradient, &gradient).expect("written");
        assert!(!engine.step(&step).expect("no step").is_finite());
        assert!(engine.read(name, Part::Value).expect("a value") == before);
        assert_eq!(engine.steps(), 1);
    }
}
