//! Random initial weights.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Model;
use crate::config::Config;
use crate::error::ModelError;
use crate::parameter::{Precision, Weight};

impl Model {
    /// A model with random weights: normal with the configuration's standard deviation, biases 0, norms 1.
    ///
    /// The two matrices of a layer that write to the residual stream are scaled down by √(2·layers), as in GPT-2, so that
    /// the stream's variance does not grow with depth. The same seed gives the same bits.
    ///
    /// # Errors
    /// A configuration that [`Config::check`] refuses.
    pub fn random(config: Config, seed: u64) -> Result<Model, ModelError> {
        config.check()?;
        let residual = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
        let mut weights = Vec::new();
        for (index, (name, shape)) in config.parameter_shapes().into_iter().enumerate() {
            let count: usize = shape.iter().product();
            let values = if name.ends_with("norm.weight") {
                vec![1.0; count]
            } else if name.ends_with(".bias") {
                vec![0.0; count]
            } else {
                let writes = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
                let deviation = config.initializer_range * if writes { residual } else { 1.0 };
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream(index as u64);
                normal(&mut random, deviation, count)
            };
            weights.push(Weight::new(&name, values, &shape, Precision::Float32)?);
        }
        Model::from_weights(config, weights)
    }
}

/// `count` normally distributed numbers (Box and Muller).
fn normal(random: &mut ChaCha8Rng, deviation: f64, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt() * deviation;
        let angle = std::f64::consts::TAU * random.random::<f64>();
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(count);
    values
}
