//! What training changes, wherever it lies.

use std::fmt;
use std::sync::Arc;

use super::DeviceError;
use crate::error::ModelError;
use crate::parameter::{Numbers, Parameter};

/// What of a parameter on a device is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its value: the f32 master copy where there is one.
    Value,
    /// Its gradient, as added up so far.
    Gradient,
    /// The optimiser's mean of gradients.
    Mean,
    /// The optimiser's mean of squared gradients.
    Square,
}

/// The numbers of an AdamW step, as in `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepNumbers {
    /// Learning rate of this step.
    pub rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
    /// Decoupled decay of matrices; vectors (norms, biases) do not decay.
    pub weight_decay: f64,
    /// Norm to which the whole gradient is clipped.
    pub clip_norm: f64,
}

/// Trained numbers on a device, with their gradients and moments.
pub(crate) trait OnDevice: Send + Sync {
    fn shapes(&self) -> Vec<(String, Vec<usize>)>;
    fn read(&self, name: &str, part: Part) -> Result<Vec<f32>, DeviceError>;
    fn write(&self, name: &str, part: Part, values: &[f32]) -> Result<(), DeviceError>;
    fn clear_gradients(&self) -> Result<(), DeviceError>;
    fn gradient_norm(&self) -> Result<f64, DeviceError>;
    fn step(&self, numbers: &StepNumbers, step: u64) -> Result<f64, DeviceError>;
}

/// Everything that training changes of one model on a device. Cloning it gives another handle on the same numbers.
#[derive(Clone)]
pub struct DeviceParameters {
    numbers: Arc<dyn OnDevice>,
    /// Name and shape of each, in the order of the model's own list.
    shapes: Arc<[(String, Vec<usize>)]>,
}

impl fmt::Debug for DeviceParameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DeviceParameters").field("parameters", &self.shapes.len()).finish()
    }
}

impl DeviceParameters {
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a device has any"))]
    pub(crate) fn new(numbers: Arc<dyn OnDevice>) -> DeviceParameters {
        let shapes = numbers.shapes().into();
        DeviceParameters { numbers, shapes }
    }

    /// Name and shape of each parameter.
    pub fn shapes(&self) -> &[(String, Vec<usize>)] {
        &self.shapes
    }

    /// Copies a part of a parameter from the device, row by row.
    ///
    /// # Errors
    /// A name that is not there, a part that does not exist yet, a failed copy.
    pub fn read(&self, name: &str, part: Part) -> Result<Vec<f32>, ModelError> {
        Ok(self.numbers.read(name, part)?)
    }

    /// Overwrites a part of a parameter; gradients and moments come into being with it, as zeros everywhere else.
    ///
    /// # Errors
    /// A name that is not there, another count of numbers, a failed copy.
    pub fn write(&self, name: &str, part: Part, values: &[f32]) -> Result<(), ModelError> {
        Ok(self.numbers.write(name, part, values)?)
    }

    /// Sets every gradient to zero.
    ///
    /// # Errors
    /// Failed calls.
    pub fn clear_gradients(&self) -> Result<(), ModelError> {
        Ok(self.numbers.clear_gradients()?)
    }

    /// The norm of all gradients together; 0 if no backward pass was run.
    ///
    /// # Errors
    /// Failed calls.
    pub fn gradient_norm(&self) -> Result<f64, ModelError> {
        Ok(self.numbers.gradient_norm()?)
    }

    /// Clips the gradient, takes AdamW's step number `step` (from 1) and returns the norm before clipping. If the norm is not finite
    /// nothing changes and the norm is returned all the same. Gradients stay as they are.
    ///
    /// # Errors
    /// No gradient, because no backward pass was run; failed calls.
    pub fn step(&self, numbers: &StepNumbers, step: u64) -> Result<f64, ModelError> {
        Ok(self.numbers.step(numbers, step)?)
    }
}

/// What training changes of a model: the adapter's matrices where there is an adapter, else all weights.
#[derive(Debug, Clone)]
pub enum Trainable {
    /// On the processor; none where the weights are frozen.
    Host(Vec<Parameter>),
    /// On a device.
    Device(DeviceParameters),
}

impl Trainable {
    /// Name and shape of each parameter, in the order of the forward pass.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Trainable::Host(parameters) => {
                let shape = |parameter: &Parameter| (parameter.name().to_owned(), parameter.shape().to_vec());
                parameters.iter().map(shape).collect()
            }
            Trainable::Device(parameters) => parameters.shapes().to_vec(),
        }
    }

    /// The numbers of the parameter in this place of the list: where they lie, or copied from the device.
    ///
    /// # Errors
    /// No such place, a failed copy.
    pub fn read(&self, place: usize) -> Result<Numbers<'_>, ModelError> {
        let absent = || ModelError::input(format!("there is no parameter in place {place}"));
        match self {
            Trainable::Host(parameters) => Ok(parameters.get(place).ok_or_else(absent)?.read()),
            Trainable::Device(parameters) => {
                let (name, _) = parameters.shapes().get(place).ok_or_else(absent)?;
                Ok(Numbers::Copied(parameters.read(name, Part::Value)?))
            }
        }
    }

    /// Overwrites the parameter in this place of the list.
    ///
    /// # Errors
    /// No such place, another count of numbers, a failed copy.
    pub fn write(&self, place: usize, values: &[f32]) -> Result<(), ModelError> {
        let absent = || ModelError::input(format!("there is no parameter in place {place}"));
        match self {
            Trainable::Host(parameters) => parameters.get(place).ok_or_else(absent)?.set(values),
            Trainable::Device(parameters) => {
                let (name, _) = parameters.shapes().get(place).ok_or_else(absent)?;
                parameters.write(name, Part::Value, values)
            }
        }
    }
}
