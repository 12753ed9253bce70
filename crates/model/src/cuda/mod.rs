//! The engine on an NVIDIA GPU (cargo feature `cuda`).
//!
//! [`Engine`] is what a [`crate::Model`] on a GPU computes with: the same decoder with everything in device memory, forward and
//! backward over packed sequences, log-probabilities and entropies, AdamW, LoRA, decoding with a cache. Matrix products go to
//! cuBLAS, the rest are kernels of our own (`kernels/*.cu`), compiled by NVRTC for the device that is found. Neither a toolkit nor a GPU is needed to build; a binary
//! with this feature starts anywhere and says what is missing when a GPU is asked for ([`CudaDriver::new`]).
//!
//! The engine speaks to the device through [`Driver`]. Tests run the very same kernels on the processor through another
//! implementation, so that all but the driver itself and the speed is checked without a GPU.
//!
//! ```no_run
//! use vul2safe_model::cuda::{CudaDriver, Engine, PassOptions, Precision, Settings, Sizes, StepNumbers};
//!
//! # fn run(sizes: Sizes, weights: std::collections::HashMap<String, Vec<f32>>) -> Result<(), vul2safe_model::cuda::DeviceError> {
//! let driver = CudaDriver::new(0, Precision::Bf16, sizes.head_width)?;
//! let mut engine = Engine::new(driver, sizes, Settings::default(), &mut vul2safe_model::cuda::from_map(&weights))?;
//! // One step of next-token training on two packed sequences.
//! let options = PassOptions { keep: true, ..PassOptions::default() };
//! let mut pass = engine.forward(&[1, 2, 3, 4, 5], &[0, 3, 5], options)?;
//! let scores = engine.score(&pass, &[0, 1, 3], &[2, 3, 5], 1.0)?;
//! engine.score_backward(&mut pass, &scores, &[-1.0 / 3.0; 3], &[0.0; 3])?;
//! engine.backward(pass)?;
//! let settings = StepNumbers { rate: 1e-5, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 1.0 };
//! let norm = engine.step(&settings)?;
//! engine.zero_gradients()?;
//! # let _ = norm; Ok(()) }
//! ```
//!
//! Results do not change from run to run: no kernel adds in an order that depends on timing.

mod array;
mod backward;
mod compile;
mod decode;
mod device;
mod driver;
mod engine;
mod launch;
mod layer;
mod memory;
mod optimizer;
mod parameters;
mod placed;
mod sizes;
mod source;

#[cfg(any(test, feature = "emulator"))]
mod tests;

pub use crate::device::{DeviceError, DeviceInfo, Draw, Part, StepNumbers};
pub use backward::Scores;
pub use decode::{Cache, Logits};
pub use device::{CudaDriver, DeviceMemory};
pub use driver::{Argument, Driver, Matrix, Number, Precision, Product};
pub use engine::{AdapterUse, Engine, Pass, PassOptions, from_map};
pub use memory::MemoryNeed;
#[cfg(feature = "emulator")]
pub(crate) use placed::place_on_emulator;
pub(crate) use placed::place_on_gpu;
pub use sizes::{AdapterSettings, Module, Settings, Shapes, Sizes, Trained};
