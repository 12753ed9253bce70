//! The gradients of a list of parameters, taken together.

use rayon::prelude::*;
use vul2safe_model::Parameter;

use crate::TrainError;

/// Places of one partial sum of a norm. A fixed size makes the sum independent of the number of threads.
const CHUNK: usize = 1 << 14;

/// Forgets all gradients; their memory is kept for the next step.
pub fn clear(parameters: &[Parameter]) {
    parameters.iter().for_each(Parameter::clear_gradient);
}

/// Gives the memory of all gradients back.
pub fn release(parameters: &[Parameter]) {
    parameters.iter().for_each(Parameter::release_gradient);
}

/// Global L2 norm over all parameters, summed in `f64`; 0 if there is no gradient.
pub fn norm(parameters: &[Parameter]) -> f64 {
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
pub fn first_not_finite(parameters: &[Parameter]) -> Option<String> {
    let broken = |parameter: &&Parameter| {
        parameter
            .with_gradient(|gradient| gradient.unwrap_or_default().par_iter().any(|value| !value.is_finite()))
    };
    parameters.iter().find(broken).map(|parameter| parameter.name().to_owned())
}

/// Refuses parameters that hold a number that is NaN or infinite: what a step made of them may not be saved.
pub(crate) fn check_parameters(
    parameters: &[Parameter],
    stage: &'static str,
    step: u64,
) -> Result<(), TrainError> {
    for parameter in parameters {
        let numbers = parameter.read();
        if let Some(place) = numbers.par_iter().position_first(|value| !value.is_finite()) {
            return Err(TrainError::NotFinite {
                stage,
                what: format!("number {place} of {}", parameter.name()),
                value: f64::from(numbers[place]),
                step,
                batch: "all before it".to_owned(),
            });
        }
    }
    Ok(())
}
