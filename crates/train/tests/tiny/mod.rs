//! A model small enough to train in a test.

#![allow(dead_code)] // Each test file uses its part.

use vul2safe_model::{Adapter, Config, LoraConfig, Model, Packed};

/// Hidden 32, two layers, 260 ids.
pub fn model(seed: u64) -> Model {
    Model::random(Config::new(260, 32, 64, 2, 4, 2), seed).unwrap()
}

/// The same base with an adapter of its own.
pub fn adapted(base: &Model, dropout: f32) -> Model {
    let config = LoraConfig { rank: 4, alpha: 8.0, dropout, ..LoraConfig::default() };
    base.with_adapter(Adapter::new(config, base.config(), 3).unwrap()).unwrap()
}

/// All trainable weights, for comparison to the bit.
pub fn weights(model: &Model) -> Vec<Vec<f32>> {
    model.parameters().iter().map(|parameter| parameter.numbers()).collect()
}

/// Log-prob of a completion after a prompt.
pub fn log_prob(model: &Model, prompt: &[u32], completion: &[u32]) -> f32 {
    let ids = [prompt, completion].concat();
    let hidden = model.hidden(&Packed::new(&[&ids])).unwrap();
    let rows: Vec<u32> = (prompt.len() - 1..ids.len() - 1).map(|row| row as u32).collect();
    let scores = model.score(&hidden, &rows, completion, 1.0).unwrap();
    scores.log_prob.sum_all().unwrap().to_scalar().unwrap()
}
