//! The gradients of everything that is trained, taken together.

use rayon::prelude::*;
use vul2safe_model::{Parameter, Part, Trainable};

use crate::TrainError;

/// Places of one partial sum of a norm. A fixed size makes the sum independent of the number of threads.
const CHUNK: usize = 1 << 14;

/// Forgets all gradients; their memory is kept for the next step.
///
/// # Errors
/// [`TrainError::Model`] where a device fails.
pub fn clear(trainable: &Trainable) -> Result<(), TrainError> {
    match trainable {
        Trainable::Host(parameters) => parameters.iter().for_each(Parameter::clear_gradient),
        Trainable::Device(parameters) => parameters.clear_gradients()?,
    }
    Ok(())
}

/// Global L2 norm over all parameters; 0 if there is no gradient. On the processor it is summed in `f64`, on a device in `f32` over
/// blocks of a fixed size and then in `f64`.
///
/// # Errors
/// [`TrainError::Model`] where a device fails.
pub fn norm(trainable: &Trainable) -> Result<f64, TrainError> {
    match trainable {
        Trainable::Host(parameters) => Ok(norm_of(parameters)),
        Trainable::Device(parameters) => Ok(parameters.gradient_norm()?),
    }
}

pub(super) fn norm_of(parameters: &[Parameter]) -> f64 {
    let mut squares = 0.0;
    for parameter in parameters {
        squares += parameter.with_gradient(|gradient| {
            let partial: Vec<f64> = gradient
                .unwrap_or_default()
                .par_chunks(CHUNK)
                .map(|chunk| chunk.iter().map(|value| f64::from(*value) * f64::from(*value)).sum())
                .collect();
            partial.iter().sum::<f64>()
        });
    }
    squares.sqrt()
}

/// Name of the first parameter whose gradient holds a number that is NaN or infinite.
///
/// # Errors
/// [`TrainError::Model`] where a device fails.
pub fn first_not_finite(trainable: &Trainable) -> Result<Option<String>, TrainError> {
    let broken = |gradient: &[f32]| gradient.par_iter().any(|value| !value.is_finite());
    match trainable {
        Trainable::Host(parameters) => {
            let found = parameters
                .iter()
                .find(|parameter| parameter.with_gradient(|gradient| broken(gradient.unwrap_or_default())));
            Ok(found.map(|parameter| parameter.name().to_owned()))
        }
        Trainable::Device(parameters) => {
            for (name, _) in parameters.shapes() {
                if broken(&parameters.read(name, Part::Gradient)?) {
                    return Ok(Some(name.clone()));
                }
            }
            Ok(None)
        }
    }
}

/// The same as words of an error's message.
pub(crate) fn place_of_break(trainable: &Trainable) -> String {
    match first_not_finite(trainable) {
        Ok(name) => format!("first in {}", name.unwrap_or_default()),
        Err(error) => format!("the gradients cannot be read: {error}"),
    }
}

/// Refuses parameters that hold a number that is NaN or infinite: what a step made of them may not be saved.
pub(crate) fn check_parameters(
    trainable: &Trainable,
    stage: &'static str,
    step: u64,
) -> Result<(), TrainError> {
    for (index, (name, _)) in trainable.shapes().iter().enumerate() {
        let numbers = trainable.read(index)?;
        if let Some(place) = numbers.par_iter().position_first(|value| !value.is_finite()) {
            return Err(TrainError::NotFinite {
                stage,
                what: format!("number {place} of {name}"),
                value: f64::from(numbers[place]),
                step,
                batch: "all before it".to_owned(),
            });
        }
    }
    Ok(())
}
