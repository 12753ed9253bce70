//! How much device memory a workload takes, before anything is loaded.

use serde::Serialize;

use super::DeviceError;
use crate::memory::Workload;

/// Bytes of device memory, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceNeed {
    /// The weights, those of the adapter and of further models included.
    pub weights: usize,
    /// Float32 copies, gradients and moments of what is trained.
    pub optimizer: usize,
    /// What a pass keeps for its way back, and what a layer and the head need on it.
    pub activations: usize,
    /// Keys and values of the requests that run, and their logits.
    pub cache: usize,
    /// The driver's own, its libraries and the compiled kernels: some hundred MiB, which nobody tells beforehand.
    pub driver: usize,
    /// The peak: training and sampling follow each other, the rest is held throughout.
    pub needed: usize,
}

/// What the driver and its libraries take (as its vendor's tools show it for a process that has done nothing yet).
#[cfg(feature = "cuda")]
const DRIVER: usize = 512 << 20;

impl Workload {
    /// What this takes of a GPU's memory. The models' precision is that of weights and activations.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for sizes that the kernels do not compute; [`DeviceError::NotBuilt`].
    #[cfg(feature = "cuda")]
    pub fn on_device(&self) -> Result<DeviceNeed, DeviceError> {
        use crate::cuda::{AdapterSettings, Settings, Sizes, Trained};
        let sizes = Sizes::of(&self.config)?;
        let trained = match (&self.lora, &self.training) {
            (Some(lora), _) => Trained::Adapter(AdapterSettings::from(lora)),
            (None, Some(_)) => Trained::All,
            (None, None) => Trained::Nothing,
        };
        let load = self.training;
        let settings = Settings {
            precision: self.precision.into(),
            trained,
            checkpointing: load.is_some_and(|load| load.checkpointing),
            ..Settings::default()
        };
        let tokens = load.map_or(0, |load| load.tokens);
        let need = sizes.training_memory(&settings, tokens, load.map_or(0, |load| load.rows));
        let real = settings.precision.number().bytes();
        // A further model shares the base with an adapter, whose matrices have float32 copies; without one it is a frozen copy.
        let further = match &self.lora {
            Some(lora) => lora.parameters(&self.config) * (real + if real == 4 { 0 } else { 4 }),
            None => self.config.parameters() * real,
        };
        let weights = need.weights + self.further_models * further;
        let optimizer = if load.is_some() { need.optimizer } else { 0 };
        let activations = if load.is_some() { need.activations + need.head } else { 0 };
        let cache = self.sampling.map_or(0, |load| {
            let capacity = load.length.next_multiple_of(64).min(sizes.positions);
            let prefill = Settings { trained: Trained::Nothing, ..settings.clone() };
            let reading = sizes.training_memory(&prefill, load.length.max(8192), load.running);
            sizes.cache_memory(&settings, load.running, capacity)
                + reading.activations
                + 4 * load.running * sizes.vocabulary
        });
        let needed = weights + optimizer + activations.max(cache) + DRIVER;
        Ok(DeviceNeed { weights, optimizer, activations, cache, driver: DRIVER, needed })
    }

    /// What this takes of a GPU's memory.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`]: this program was built without the engine for GPUs.
    #[cfg(not(feature = "cuda"))]
    pub fn on_device(&self) -> Result<DeviceNeed, DeviceError> {
        Err(DeviceError::NotBuilt { device: "a GPU".to_owned() })
    }
}
