//! AdamW with `f32` moments.

use std::{collections::HashMap, path::Path};

use rayon::prelude::*;
use vul2safe_model::Parameter;

use super::{OptimizerConfig, gradients};
use crate::{
    TrainError,
    tensor_file::{self, Entry, TensorFile},
};

/// Places handled by one task of an update.
const CHUNK: usize = 1 << 14;

/// AdamW over a fixed list of parameters.
///
/// The update is `torch.optim.AdamW`'s: decay first, then `p ← p − rate · m̂ / (√v̂ + ε)` with bias-corrected moments.
/// Only parameters of two or more dimensions decay. Embeddings are such matrices and decay as well, as in the golden
/// numbers: a tied head makes them the output layer, which wants decay like every other projection.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    moments: Vec<Moments>,
    step: u64,
    config: OptimizerConfig,
}

#[derive(Debug)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl AdamW {
    /// An optimiser with zero moments.
    pub fn new(parameters: &[Parameter], config: OptimizerConfig) -> Self {
        let moments = parameters
            .iter()
            .map(|parameter| {
                let count = parameter.count();
                Moments { first: vec![0.0; count], second: vec![0.0; count] }
            })
            .collect();
        Self { parameters: parameters.to_vec(), moments, step: 0, config }
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Clips the parameters' gradients to the configured norm, takes one step at `rate` and forgets the gradients; returns the
    /// norm before clipping.
    ///
    /// A parameter that no gradient reached stays as it is, moments included. If the norm is not finite nothing changes
    /// and the norm is returned all the same: the caller says where it happened, and [`gradients::first_not_finite`] where
    /// in the model.
    ///
    /// # Errors
    /// [`TrainError::Model`] where a parameter's storage cannot be written.
    pub fn step(&mut self, rate: f64) -> Result<f64, TrainError> {
        let norm = gradients::norm(&self.parameters);
        if !norm.is_finite() {
            return Ok(norm);
        }
        // torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm.
        let scale = (self.config.clip_norm / (norm + 1e-6)).min(1.0) as f32;
        self.step += 1;
        let OptimizerConfig { beta1, beta2, epsilon, weight_decay, .. } = self.config;
        let correction1 = 1.0 - beta1.powf(self.step as f64);
        let correction2 = 1.0 - beta2.powf(self.step as f64);
        for (parameter, Moments { first, second }) in self.parameters.iter().zip(&mut self.moments) {
            let decay = if parameter.rank() >= 2 { weight_decay } else { 0.0 };
            let update = Update {
                scale,
                keep: (1.0 - rate * decay) as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                step_size: (rate / correction1) as f32,
                root2: correction2.sqrt() as f32,
                epsilon: epsilon as f32,
            };
            parameter.update(|values, gradient| {
                let Some(gradient) = gradient else { return };
                // Every place is independent of the others, so the split over threads does not change a bit.
                values
                    .par_chunks_mut(CHUNK)
                    .zip(gradient.par_chunks(CHUNK))
                    .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
                    .for_each(|((values, gradient), (first, second))| {
                        update.apply(values, gradient, first, second)
                    });
            })?;
            // Given back, not kept: the activations of the next step's forward pass take its place.
            parameter.release_gradient();
        }
        Ok(norm)
    }

    /// Moments and step count as a safetensors file: `first.<name>`, `second.<name>`, and the count in the metadata.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let entries: Vec<Entry<'_>> = self
            .parameters
            .iter()
            .zip(&self.moments)
            .flat_map(|(parameter, moments)| {
                let (name, shape) = (parameter.name(), parameter.shape());
                [
                    Entry { name: format!("first.{name}"), shape, numbers: &moments.first },
                    Entry { name: format!("second.{name}"), shape, numbers: &moments.second },
                ]
            })
            .collect();
        let metadata = HashMap::from([("step".to_owned(), self.step.to_string())]);
        tensor_file::write(path, &entries, metadata)
    }

    /// Reads what [`AdamW::save`] wrote for the same parameters.
    ///
    /// # Errors
    /// [`TrainError::Io`], or [`TrainError::Checkpoint`] for a file that is cut short or belongs to other parameters;
    /// the state is then unchanged.
    pub fn load(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut file = TensorFile::open(path)?;
        let step = file
            .note("step")
            .and_then(|step| step.parse().ok())
            .ok_or_else(|| file.broken("no step count in its metadata".to_owned()))?;
        let moments = self
            .parameters
            .iter()
            .map(|parameter| {
                let (name, shape) = (parameter.name(), parameter.shape());
                let first = file.read(&format!("first.{name}"), shape)?;
                Ok(Moments { first, second: file.read(&format!("second.{name}"), shape)? })
            })
            .collect::<Result<Vec<_>, TrainError>>()?;
        self.moments = moments;
        self.step = step;
        Ok(())
    }
}

/// The numbers of one step, in the type of the moments.
#[derive(Debug, Clone, Copy)]
struct Update {
    scale: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    step_size: f32,
    root2: f32,
    epsilon: f32,
}

impl Update {
    fn apply(&self, parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let places = parameter.iter_mut().zip(gradient).zip(first.iter_mut().zip(second.iter_mut()));
        for ((parameter, gradient), (first, second)) in places {
            let gradient = gradient * self.scale;
            *first = self.beta1 * *first + (1.0 - self.beta1) * gradient;
            *second = self.beta2 * *second + (1.0 - self.beta2) * gradient * gradient;
            let denominator = second.sqrt() / self.root2 + self.epsilon;
            *parameter = *parameter * self.keep - self.step_size * *first / denominator;
        }
    }
}
