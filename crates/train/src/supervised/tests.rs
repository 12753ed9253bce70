//! What only the inside can see: gradients of batches.

use vul2safe_model::{Adapter, Config, LoraConfig, Model};

use super::*;

/// A full model and one with an adapter whose matrices are all different from zero.
fn models() -> [Model; 2] {
    let base = Model::random(Config::new(64, 32, 48, 2, 4, 2), 5).unwrap();
    let adapter = Adapter::new(LoraConfig { rank: 4, ..LoraConfig::default() }, base.config(), 1).unwrap();
    for (index, parameter) in adapter.parameters().iter().enumerate() {
        // A as large as it begins, B as small as it is after some steps.
        let size = if index % 2 == 0 { 0.1 } else { 0.01 };
        let number = |at: usize| size * (((at * 37 + index * 11) % 23) as f32 / 11.0 - 1.0);
        parameter.set(&(0..parameter.count()).map(number).collect::<Vec<_>>()).unwrap();
    }
    let adapted = base.with_adapter(adapter).unwrap();
    [base, adapted]
}

/// Eight examples of 6 to 20 tokens, with weights on some.
fn examples() -> Vec<Example> {
    (0..8u32)
        .map(|index| {
            let ids: Vec<u32> = (0..6 + 2 * index).map(|place| (place * 7 + index * 13) % 64).collect();
            let (prompt, completion) = ids.split_at(2 + index as usize % 3);
            let weights =
                (index % 2 == 0).then(|| (1..=completion.len()).map(|at| 1.0 / at as f32).collect());
            Example { prompt: prompt.to_vec(), completion: completion.to_vec(), weights }
        })
        .collect()
}

/// The gradients of one batch in this order, in micro-batches of this many tokens at most.
fn gradients_of(model: &Model, batch: &[usize], tokens_per_microbatch: usize) -> Vec<f64> {
    let examples = examples();
    let sequences = sequences::of_examples(&examples, 64).unwrap();
    let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.ids.len()).collect();
    let config = SftConfig { tokens_per_microbatch, ..SftConfig::default() };
    loss_and_gradients(model, &sequences, &lengths, batch, &Settings::of_sft(&config), 0).unwrap();
    let gradients = model.parameters().iter().map(|parameter| parameter.gradient().unwrap());
    gradients.flatten().map(f64::from).collect()
}

/// Asserts that two gradients differ by less than 1e-6 of their length.
fn assert_equal(ours: &[f64], theirs: &[f64], what: &str) {
    let length =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let size = length(&mut ours.iter().copied());
    let difference = length(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
    assert!(size > 1e-2, "{what}: the gradient is {size}");
    assert!(difference < 1e-6 * size, "{what}: {difference} of {size}");
}

#[test]
fn accumulation_in_one_two_and_four_parts_gives_one_gradient() {
    let batch: Vec<usize> = (0..8).collect();
    let lengths: Vec<usize> = examples().iter().map(|e| e.prompt.len() + e.completion.len()).collect();
    for model in models() {
        let whole = gradients_of(&model, &batch, 1000);
        for (tokens, parts) in [(1000, 1), (60, 2), (34, 4)] {
            assert_eq!(batches::fill(&batch, &lengths, tokens).len(), parts);
            assert_equal(&whole, &gradients_of(&model, &batch, tokens), &format!("{parts} parts"));
        }
    }
}

#[test]
fn the_order_in_a_batch_does_not_matter() {
    for model in models() {
        let whole = gradients_of(&model, &[0, 1, 2, 3, 4, 5, 6, 7], 40);
        for order in [[7, 6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 7, 5, 2, 4]] {
            assert_equal(&whole, &gradients_of(&model, &order, 40), &format!("{order:?}"));
        }
    }
}
