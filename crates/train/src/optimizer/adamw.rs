//! AdamW with `f32` moments.

use std::{cell::RefCell, collections::HashMap, path::Path};

use candle_core::{CpuStorage, InplaceOp1, Layout, Var};
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{Gradients, OptimizerConfig, gradients::with_slice};
use crate::TrainError;

/// Places handled by one task of an update.
const CHUNK: usize = 1 << 14;

/// AdamW over a fixed list of parameters.
///
/// The update is `torch.optim.AdamW`'s: decay first, then `p ← p − rate · m̂ / (√v̂ + ε)` with bias-corrected moments.
/// Only parameters of two or more dimensions decay. Embeddings are such matrices and decay as well, as in the golden
/// numbers: a tied head makes them the output layer, which wants decay like every other projection.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<(String, Var)>,
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
    pub fn new(parameters: &[(String, Var)], config: OptimizerConfig) -> Self {
        let moments = parameters
            .iter()
            .map(|(_, parameter)| {
                let count = parameter.elem_count();
                Moments { first: vec![0.0; count], second: vec![0.0; count] }
            })
            .collect();
        Self { parameters: parameters.to_vec(), moments, step: 0, config }
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> &[(String, Var)] {
        &self.parameters
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Clips the gradients to the configured norm and takes one step at `rate`; returns the norm before clipping.
    ///
    /// A parameter that no gradient reached stays as it is, moments included. If the norm is not finite nothing changes
    /// and the norm is returned all the same: the caller says where it happened.
    ///
    /// # Errors
    /// [`TrainError::Tensor`] where a parameter is not contiguous `f32` on the CPU.
    pub fn step(&mut self, gradients: &Gradients, rate: f64) -> Result<f64, TrainError> {
        let norm = gradients.norm()?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        // torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm.
        let scale = (self.config.clip_norm / (norm + 1e-6)).min(1.0) as f32;
        self.step += 1;
        let OptimizerConfig { beta1, beta2, epsilon, weight_decay, .. } = self.config;
        let correction1 = 1.0 - beta1.powf(self.step as f64);
        let correction2 = 1.0 - beta2.powf(self.step as f64);
        for (index, ((_, parameter), moments)) in self.parameters.iter().zip(&mut self.moments).enumerate() {
            let Some(gradient) = gradients.get(index) else { continue };
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
            with_slice(gradient, |gradient| {
                let operation = InPlace { update, gradient, moments: RefCell::new(moments) };
                parameter.inplace_op1(&operation)
            })??;
        }
        Ok(norm)
    }

    /// Moments and step count as a safetensors file: `first.<name>`, `second.<name>`, and the count in the metadata.
    ///
    /// # Errors
    /// [`TrainError::Io`] with the path.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let mut bytes: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::with_capacity(2 * self.parameters.len());
        for ((name, parameter), moments) in self.parameters.iter().zip(&self.moments) {
            let shape = parameter.dims().to_vec();
            bytes.push((format!("first.{name}"), shape.clone(), to_bytes(&moments.first)));
            bytes.push((format!("second.{name}"), shape, to_bytes(&moments.second)));
        }
        let metadata = HashMap::from([("step".to_owned(), self.step.to_string())]);
        write_safetensors(path, &bytes, metadata)
    }

    /// Reads what [`AdamW::save`] wrote for the same parameters.
    ///
    /// # Errors
    /// [`TrainError::Io`], or [`TrainError::Checkpoint`] for a file that is cut short or belongs to other parameters;
    /// the state is then unchanged.
    pub fn load(&mut self, path: &Path) -> Result<(), TrainError> {
        let broken = |problem: String| TrainError::Checkpoint { path: path.to_owned(), problem };
        let bytes = fs_err::read(path).map_err(TrainError::io(path))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| broken(error.to_string()))?;
        let step = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get("step"))
            .and_then(|step| step.parse().ok())
            .ok_or_else(|| broken("no step count in its metadata".to_owned()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| broken(error.to_string()))?;
        let moments = self
            .parameters
            .iter()
            .map(|(name, parameter)| {
                let read = |prefix: &str| {
                    let name = format!("{prefix}.{name}");
                    let tensor = tensors.tensor(&name).map_err(|error| broken(error.to_string()))?;
                    from_view(&tensor, parameter.dims()).ok_or_else(|| {
                        broken(format!(
                            "`{name}` is {:?} {:?}, not F32 {:?}",
                            tensor.dtype(),
                            tensor.shape(),
                            parameter.dims()
                        ))
                    })
                };
                Ok(Moments { first: read("first")?, second: read("second")? })
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

/// The update of one parameter as an operation on its storage.
struct InPlace<'a> {
    update: Update,
    gradient: &'a [f32],
    // `InplaceOp1` hands out `&self`; the moments change all the same, on this thread alone.
    moments: RefCell<&'a mut Moments>,
}

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            return Err(candle_core::Error::Msg("AdamW updates f32 parameters only".to_owned()));
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(candle_core::Error::Msg("AdamW updates contiguous parameters only".to_owned()));
        };
        let mut moments = self.moments.borrow_mut();
        let Moments { first, second } = &mut **moments;
        let update = self.update;
        // Every place is independent of the others, so the split over threads does not change a bit.
        values[start..end]
            .par_chunks_mut(CHUNK)
            .zip(self.gradient.par_chunks(CHUNK))
            .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
            .for_each(|((parameter, gradient), (first, second))| {
                update.apply(parameter, gradient, first, second)
            });
        Ok(())
    }
}

pub(crate) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The values of a view, if it is `f32` of this shape.
pub(crate) fn from_view(view: &TensorView<'_>, shape: &[usize]) -> Option<Vec<f32>> {
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return None;
    }
    // `chunks_exact(4)` yields slices of four bytes only, so the conversion never takes the default.
    Some(
        view.data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap_or_default()))
            .collect(),
    )
}

pub(crate) fn write_safetensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<u8>)],
    metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    let broken = |error: safetensors::SafeTensorError| TrainError::Checkpoint {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(broken)?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    Ok(vul2safe_run::write_atomic(path, &bytes)?)
}
