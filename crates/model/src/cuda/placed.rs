//! The engine behind [`crate::Model`]: what a model on a device asks of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::backward::Scores;
use super::decode::{Cache, Logits};
use super::device::CudaDriver;
use super::driver::{Driver, Precision};
use super::engine::{AdapterUse, Engine, Pass, PassOptions};
use super::launch::Kernels;
use super::sizes::{AdapterSettings, Settings, Sizes, Trained};
use crate::config::Config;
use crate::device::{
    DeviceCache, DeviceError, DeviceModel, DeviceParameters, DevicePass, Draw, Keep, OnDevice, Part,
    Placement, StepNumbers, Tensors,
};
use crate::lora::LoraConfig;
use crate::packed::Packed;

/// How an adapter takes part in generation. Apart, as in training: a policy's answers are then drawn from the distribution that its
/// update takes the log-probabilities of.
const GENERATION: AdapterUse = AdapterUse::Apart;

/// GPUs that were opened in this process, with their kernels: opening one takes seconds.
type Opened = HashMap<(usize, Precision, usize), Arc<Kernels<CudaDriver>>>;
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

/// Puts a decoder onto a GPU.
///
/// # Errors
/// Those of [`CudaDriver::new`] and [`Engine::new`].
pub(crate) fn place_on_gpu(
    ordinal: usize,
    placement: Placement,
    config: &Config,
    tensors: Tensors<'_>,
) -> Result<Arc<dyn DeviceModel>, DeviceError> {
    let sizes = Sizes::of(config)?;
    let key = (ordinal, Precision::from(placement.precision), sizes.head_width);
    let kernels = {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opened.get_or_insert_default();
        match opened.get(&key) {
            Some(kernels) => kernels.clone(),
            None => {
                let driver = CudaDriver::new(ordinal, key.1, sizes.head_width)?;
                let kernels = Arc::new(Kernels::new(driver));
                opened.insert(key, kernels.clone());
                kernels
            }
        }
    };
    place(kernels, sizes, placement, tensors)
}

/// Puts a decoder onto the emulator.
///
/// # Errors
/// [`DeviceError::Absent`] where the emulator cannot run; those of [`Engine::new`].
#[cfg(feature = "emulator")]
pub(crate) fn place_on_emulator(
    placement: Placement,
    config: &Config,
    tensors: Tensors<'_>,
) -> Result<Arc<dyn DeviceModel>, DeviceError> {
    let sizes = Sizes::of(config)?;
    let driver = super::tests::emulator::Emulator::new(placement.precision.into(), sizes.head_width);
    let driver = driver.ok_or_else(|| DeviceError::Absent {
        reason: "the emulator needs x86-64 Linux and a C++ compiler".into(),
    })?;
    place(Arc::new(Kernels::new(driver)), sizes, placement, tensors)
}

fn place<D: Driver>(
    kernels: Arc<Kernels<D>>,
    sizes: Sizes,
    placement: Placement,
    tensors: Tensors<'_>,
) -> Result<Arc<dyn DeviceModel>, DeviceError> {
    let settings = Settings {
        precision: placement.precision.into(),
        trained: if placement.frozen { Trained::Nothing } else { Trained::All },
        ..Settings::default()
    };
    Ok(Arc::new(Placed(Arc::new(Engine::on(kernels, sizes, settings, tensors)?))))
}

/// A decoder on a driver's device.
struct Placed<D: Driver>(Arc<Engine<D>>);

impl<D: Driver> DeviceModel for Placed<D> {
    fn read(&self, name: &str, count: usize) -> Result<Vec<f32>, DeviceError> {
        self.0.base.read_first(&self.0.kernels, name, count)
    }

    fn trained(&self) -> Option<DeviceParameters> {
        self.0.trained_parameters()?;
        Some(DeviceParameters::new(Arc::new(Placed(self.0.clone()))))
    }

    fn pass(&self, batch: &Packed, keep: Option<Keep>) -> Result<Box<dyn DevicePass>, DeviceError> {
        let options = PassOptions {
            keep: keep.is_some(),
            adapter: AdapterUse::Apart,
            dropout: keep.and_then(|keep| keep.dropout),
            checkpointing: keep.map(|keep| keep.checkpointing),
        };
        let pass = self.0.forward(&batch.ids, &batch.offsets, options)?;
        Ok(Box::new(PlacedPass { engine: self.0.clone(), pass, scores: None, rows: Vec::new() }))
    }

    fn with_adapter(
        &self,
        adapter: &LoraConfig,
        tensors: Tensors<'_>,
    ) -> Result<Arc<dyn DeviceModel>, DeviceError> {
        let engine = self.0.with_adapter(Some(&AdapterSettings::from(adapter)), tensors)?;
        Ok(Arc::new(Placed(Arc::new(engine))))
    }

    fn without_adapter(&self) -> Result<Arc<dyn DeviceModel>, DeviceError> {
        let mut none = |name: &str| Err(DeviceError::input(format!("there is no adapter to read {name} of")));
        Ok(Arc::new(Placed(Arc::new(self.0.with_adapter(None, &mut none)?))))
    }

    fn duplicate(&self) -> Result<Arc<dyn DeviceModel>, DeviceError> {
        Ok(Arc::new(Placed(Arc::new(self.0.duplicate()?))))
    }

    fn cache(&self, slots: usize, capacity: usize) -> Result<Box<dyn DeviceCache>, DeviceError> {
        let cache = self.0.cache(slots, capacity)?;
        Ok(Box::new(PlacedCache { engine: self.0.clone(), cache, logits: None }))
    }
}

impl<D: Driver> OnDevice for Placed<D> {
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.0.trained().into_iter().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect()
    }

    fn read(&self, name: &str, part: Part) -> Result<Vec<f32>, DeviceError> {
        self.0.read(name, part)
    }

    fn write(&self, name: &str, part: Part, values: &[f32]) -> Result<(), DeviceError> {
        self.0.write(name, part, values)
    }

    fn clear_gradients(&self) -> Result<(), DeviceError> {
        self.0.zero_gradients()
    }

    fn gradient_norm(&self) -> Result<f64, DeviceError> {
        self.0.gradient_norm()
    }

    fn step(&self, numbers: &StepNumbers, step: u64) -> Result<f64, DeviceError> {
        self.0.step_number(numbers, step)
    }
}

struct PlacedPass<D: Driver> {
    engine: Arc<Engine<D>>,
    pass: Pass<D>,
    /// The last scores, and the rows that they are of.
    scores: Option<Scores<D>>,
    rows: Vec<u32>,
}

impl<D: Driver> DevicePass for PlacedPass<D> {
    fn hidden(&self, rows: &[u32]) -> Result<Vec<f32>, DeviceError> {
        self.engine.hidden_rows(&self.pass, rows)
    }

    fn logits(&self) -> Result<Vec<f32>, DeviceError> {
        self.engine.logits(&self.pass)
    }

    fn score(
        &mut self,
        rows: &[u32],
        targets: &[u32],
        temperature: f32,
    ) -> Result<(Vec<f32>, Vec<f32>), DeviceError> {
        let scores = self.engine.score(&self.pass, rows, targets, temperature)?;
        let found = (scores.log_prob.clone(), scores.entropy.clone());
        (self.scores, self.rows) = (Some(scores), rows.to_vec());
        Ok(found)
    }

    fn backward(
        mut self: Box<Self>,
        d_log_prob: &[f32],
        d_entropy: &[f32],
        d_hidden: Option<&[f32]>,
    ) -> Result<(), DeviceError> {
        // Before anything is added to the head's gradient.
        if !self.pass.context.options.keep {
            return Err(DeviceError::input("a way back needs a pass that keeps what it saw"));
        }
        let scores =
            self.scores.take().ok_or_else(|| DeviceError::input("nothing of this pass was scored"))?;
        self.engine.score_backward(&mut self.pass, &scores, d_log_prob, d_entropy)?;
        drop(scores);
        if let Some(d_hidden) = d_hidden {
            self.engine.add_hidden_gradient_rows(&mut self.pass, &self.rows, d_hidden)?;
        }
        self.engine.backward(self.pass)
    }

    fn learn(
        mut self: Box<Self>,
        rows: &[u32],
        targets: &[u32],
        d_log_prob: &[f32],
    ) -> Result<Vec<f32>, DeviceError> {
        let log_prob = self.engine.cross_entropy(&mut self.pass, rows, targets, d_log_prob)?;
        self.engine.backward(self.pass)?;
        Ok(log_prob)
    }
}

struct PlacedCache<D: Driver> {
    engine: Arc<Engine<D>>,
    cache: Cache<D>,
    logits: Option<Logits<D>>,
}

impl<D: Driver> PlacedCache<D> {
    fn last(&self) -> Result<&Logits<D>, DeviceError> {
        self.logits.as_ref().ok_or_else(|| DeviceError::input("no token was read yet"))
    }
}

impl<D: Driver> DeviceCache for PlacedCache<D> {
    fn prefill(&mut self, slots: &[usize], prompts: &[&[u32]]) -> Result<(), DeviceError> {
        // The old logits are given back before room for the new ones is taken.
        self.logits = None;
        self.logits = Some(self.engine.prefill(&mut self.cache, slots, prompts, GENERATION)?);
        Ok(())
    }

    fn share(&mut self, from: usize, to: &[usize], length: usize) -> Result<(), DeviceError> {
        self.engine.share(&mut self.cache, from, to, length)
    }

    fn decode(&mut self, slots: &[usize], ids: &[u32]) -> Result<(), DeviceError> {
        self.logits = None;
        self.logits = Some(self.engine.decode(&mut self.cache, slots, ids, GENERATION)?);
        Ok(())
    }

    fn clear(&mut self, slot: usize) {
        self.cache.truncate(slot, 0);
    }

    fn sample(&self, draws: &[Draw]) -> Result<Vec<(u32, f32)>, DeviceError> {
        self.engine.sample(self.last()?, draws)
    }

    fn logits(&self) -> Result<Vec<f32>, DeviceError> {
        self.engine.read_logits(self.last()?)
    }
}
