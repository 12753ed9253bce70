//! From the actor's hidden states to one value a token.

use std::path::Path;

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vul2safe_model::{Parameter, Trainable};

use crate::{
    TrainError,
    seeds::{Stream, derive},
    tensor_file,
};

/// `tanh(h A + a) B + b`, or `h B + b` with width 0; the output layer starts at 0.
#[derive(Debug, Clone)]
pub(super) struct ValueHead {
    parameters: Vec<Parameter>,
}

impl ValueHead {
    pub fn new(hidden: usize, width: usize, seed: u64) -> Result<Self, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(derive(seed, Stream::ValueHead, 0, 0));
        // Hidden states leave a root-mean-square norm with entries around 1: this keeps the sums around 1 as well.
        let bound = (3.0 / hidden as f32).sqrt();
        let dense: Vec<f32> = (0..hidden * width).map(|_| random.random_range(-bound..bound)).collect();
        let last = if width == 0 { hidden } else { width };
        let mut tensors = Vec::new();
        if width > 0 {
            tensors.push(("dense.weight", vec![hidden, width], dense));
            tensors.push(("dense.bias", vec![width], vec![0.0; width]));
        }
        tensors.push(("output.weight", vec![last, 1], vec![0.0; last]));
        tensors.push(("output.bias", vec![1], vec![0.0]));
        let parameters = tensors
            .into_iter()
            .map(|(name, shape, values)| Parameter::new(name, values, shape))
            .collect::<Result<_, _>>()?;
        Ok(Self { parameters })
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The same list for an optimiser; it is small, and lies on the processor wherever the actor does.
    pub fn trainable(&self) -> Trainable {
        Trainable::Host(self.parameters.clone())
    }

    /// `[rows, hidden]` → `[rows]`.
    pub fn forward(&self, rows: &Tensor) -> Result<Tensor, TrainError> {
        let part = |index: usize| self.parameters[index].value().as_tensor();
        let values = match self.parameters.len() {
            4 => {
                let dense = rows.matmul(part(0))?.broadcast_add(part(1))?.tanh()?;
                dense.matmul(part(2))?.broadcast_add(part(3))?
            }
            _ => rows.matmul(part(0))?.broadcast_add(part(1))?,
        };
        Ok(values.squeeze(1)?)
    }

    /// Sets the output's bias.
    pub fn set_bias(&self, bias: f32) -> Result<(), TrainError> {
        if let Some(parameter) = self.parameters.last() {
            parameter.set(&[bias])?;
        }
        Ok(())
    }

    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        tensor_file::write_parameters(path, &self.trainable())
    }

    pub fn load(&self, path: &Path) -> Result<(), TrainError> {
        tensor_file::read_parameters(path, &self.trainable())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn starts_at_zero_takes_a_bias_and_every_parameter_learns() {
        let rows = Tensor::new(&[[1.0f32, -2.0, 0.5], [0.1, 0.2, 0.3]], &Device::Cpu).unwrap();
        for width in [0, 4] {
            let head = ValueHead::new(3, width, 1).unwrap();
            assert_eq!(head.forward(&rows).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0]);
            head.set_bias(0.7).unwrap();
            assert_eq!(head.forward(&rows).unwrap().to_vec1::<f32>().unwrap(), [0.7, 0.7]);
            let mut store = head.forward(&rows).unwrap().sum_all().unwrap().backward().unwrap();
            head.parameters().iter().for_each(|parameter| parameter.take_from(&mut store).unwrap());
            assert!(head.parameters().iter().all(|parameter| parameter.gradient().is_some()));
        }
    }

    #[test]
    fn survives_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        let head = ValueHead::new(3, 2, 1).unwrap();
        head.set_bias(0.25).unwrap();
        head.save(&path).unwrap();
        let other = ValueHead::new(3, 2, 9).unwrap();
        other.load(&path).unwrap();
        let values = |head: &ValueHead| -> Vec<Vec<f32>> {
            head.parameters().iter().map(Parameter::numbers).collect()
        };
        assert_eq!(values(&head), values(&other));
        assert!(ValueHead::new(3, 0, 1).unwrap().load(&path).is_err());
    }
}
