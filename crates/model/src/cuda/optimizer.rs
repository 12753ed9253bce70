//! The gradient's norm and AdamW, on the device.

use super::driver::Driver;
use super::engine::Engine;
use super::launch::Update;
use crate::device::DeviceError;
use crate::device::StepNumbers;

impl<D: Driver> Engine<D> {
    /// The norm of all gradients together.
    ///
    /// # Errors
    /// Failed calls.
    pub fn gradient_norm(&self) -> Result<f64, DeviceError> {
        let gradients = self.trained_parameters().and_then(|parameters| parameters.all_gradients());
        gradients.map_or(Ok(0.0), |gradients| Ok(self.kernels.sum_squares(gradients)?.sqrt()))
    }

    /// Sets every gradient to zero.
    ///
    /// # Errors
    /// Failed calls.
    pub fn zero_gradients(&self) -> Result<(), DeviceError> {
        self.trained_parameters().map_or(Ok(()), |parameters| parameters.clear_gradient(&self.kernels))
    }

    /// Clips the gradient, takes a step and returns the norm before clipping. Gradients stay as they are.
    ///
    /// If the norm is not finite nothing changes and the norm is returned all the same: the caller says where it happened.
    ///
    /// # Errors
    /// No gradient, because nothing is trained or no backward pass was run; failed calls.
    pub fn step(&mut self, settings: &StepNumbers) -> Result<f64, DeviceError> {
        let steps = self.steps + 1;
        let norm = self.step_number(settings, steps)?;
        if norm.is_finite() {
            self.steps = steps;
        }
        Ok(norm)
    }

    /// [`Engine::step`] with the step's number, from 1, counted by the caller.
    ///
    /// # Errors
    /// Those of [`Engine::step`].
    pub fn step_number(&self, settings: &StepNumbers, steps: u64) -> Result<f64, DeviceError> {
        let norm = self.gradient_norm()?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        if let Some(parameters) = self.trained_parameters() {
            parameters.begin_moments(&self.kernels)?;
        }
        let absent = || DeviceError::input("a step without a gradient");
        let parameters = self.trained_parameters().ok_or_else(absent)?;
        let gradient = parameters.all_gradients().ok_or_else(absent)?;
        let (mean, square) = parameters.moments().ok_or_else(absent)?;
        let StepNumbers { rate, beta1, beta2, epsilon, weight_decay, clip_norm } = *settings;
        let correction1 = 1.0 - beta1.powf(steps as f64);
        let correction2 = 1.0 - beta2.powf(steps as f64);
        let (decaying, all) = (parameters.decaying, parameters.length());
        for (first, length, decay) in [(0, decaying, weight_decay), (decaying, all - decaying, 0.0)] {
            let update = Update {
                // torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm.
                clip: (clip_norm / (norm + 1e-6)).min(1.0) as f32,
                keep: (1.0 - rate * decay) as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                step_size: (rate / correction1) as f32,
                root2: correction2.sqrt() as f32,
                epsilon: epsilon as f32,
            };
            self.kernels.adamw(parameters.updated(), (gradient, mean, square), (first, length), &update)?;
        }
        Ok(norm)
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Continues counting from a saved state, whose moments are given back through [`Engine::write`].
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}
