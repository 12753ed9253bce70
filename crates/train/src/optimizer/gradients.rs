//! Gradients of the micro-batches of one step, added up.

use candle_core::{Tensor, Var, backprop::GradStore};
use rayon::prelude::*;

use crate::TrainError;

/// Places of one partial sum of a norm. A fixed size makes the sum independent of the number of threads.
const CHUNK: usize = 1 << 14;

/// The sum of gradients, one `f32` tensor a parameter, in the parameters' order.
#[derive(Debug)]
pub struct Gradients {
    sums: Vec<Option<Tensor>>,
}

impl Gradients {
    /// No gradient yet for `count` parameters.
    pub fn new(count: usize) -> Self {
        Self { sums: vec![None; count] }
    }

    /// Takes what one backward pass found for `parameters` (in the order of construction) out of `store`.
    ///
    /// A parameter without a gradient in `store` keeps what it has.
    ///
    /// # Errors
    /// [`TrainError::Tensor`] where shapes do not fit.
    pub fn add(&mut self, parameters: &[(String, Var)], store: &mut GradStore) -> Result<(), TrainError> {
        for (sum, (_, parameter)) in self.sums.iter_mut().zip(parameters) {
            let Some(gradient) = store.remove(parameter) else { continue };
            // Detached, so that no graph of an earlier micro-batch stays alive.
            let gradient = gradient.detach();
            *sum = Some(match sum.take() {
                None => gradient.contiguous()?,
                Some(earlier) => (earlier + gradient)?,
            });
        }
        Ok(())
    }

    /// Gradient of parameter `index`, if any reached it.
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.sums.get(index).and_then(Option::as_ref)
    }

    /// Global L2 norm over all parameters, summed in `f64`; 0 if there is none.
    ///
    /// # Errors
    /// [`TrainError::Tensor`] where a gradient is not `f32` on the CPU.
    pub fn norm(&self) -> Result<f64, TrainError> {
        let mut squares = 0.0;
        for gradient in self.sums.iter().flatten() {
            squares += with_slice(gradient, |values| {
                let partial: Vec<f64> = values
                    .par_chunks(CHUNK)
                    .map(|chunk| chunk.iter().map(|value| f64::from(*value) * f64::from(*value)).sum())
                    .collect();
                partial.iter().sum::<f64>()
            })?;
        }
        Ok(squares.sqrt())
    }
}

/// Runs `work` on the contiguous `f32` values of a CPU tensor.
pub(crate) fn with_slice<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> Result<T, TrainError> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else {
        return Err(candle_core::Error::Msg("a CPU tensor is wanted".to_owned()).into());
    };
    let values = storage.as_slice::<f32>()?;
    let start = layout.start_offset();
    Ok(work(&values[start..start + layout.shape().elem_count()]))
}
