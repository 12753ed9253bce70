//! The engine on an NVIDIA GPU (cargo feature `cuda`).
//!
//! [`Engine`] is the same decoder as [`crate::Model`] with everything in device memory: forward and backward over packed sequences,
//! log-probabilities and entropies, AdamW, LoRA, decoding with a cache. Matrix products go to cuBLAS, the rest are kernels of our
//! own (`kernels/*.cu`), compiled by NVRTC for the device that is found. Neither a toolkit nor a GPU is needed to build; a binary
//! with this feature starts anywhere and says what is missing when a GPU is asked for ([`CudaDriver::new`]).
//!
//! The engine speaks to the device through [`Driver`]. Tests run the very same kernels on the processor through another
//! implementation, so that all but the driver itself and the speed is checked without a GPU.
//!
//! Results do not change from run to run: no kernel adds in an order that depends on timing.

mod array;
mod backward;
mod compile;
mod decode;
mod device;
mod driver;
mod engine;
mod error;
mod launch;
mod layer;
mod memory;
mod optimizer;
mod parameters;
mod sizes;
mod source;

#[cfg(test)]
mod tests;

pub use backward::Scores;
pub use decode::{Cache, Draw, Logits};
pub use device::{CudaDriver, DeviceInfo, DeviceMemory};
pub use driver::{Argument, Driver, Matrix, Number, Precision, Product};
pub use engine::{Engine, Pass, PassOptions, from_map};
pub use error::DeviceError;
pub use memory::MemoryNeed;
pub use optimizer::AdamW;
pub use parameters::Part;
pub use sizes::{AdapterSettings, Module, Settings, Shapes, Sizes, Trained};
