//! The model: its weights, its adapters, and where they come from and go to.

mod forward;
mod place;
mod random;
mod score;
mod scored_pass;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::{self, Written};
use crate::config::Config;
use crate::device::{Device, Placement, Trainable};
use crate::error::ModelError;
use crate::kernels::attention::Heads;
use crate::layers::Weights;
use crate::lora::{Adapter, LoraConfig, merge};
use crate::parameter::{Numbers, Parameter, Precision, Weight};

pub use forward::Pass;
pub use score::TokenScores;
pub use scored_pass::{Gradients, ScoredPass};

pub(crate) use place::Host;
use place::{OnDevice, Place};

/// A decoder with its weights in memory, and an adapter on them where it has one.
///
/// Its numbers lie in this process's memory or on a device ([`Model::placement`]); what is done with it is the same.
/// Several models may share the memory of one base: see [`Model::with_adapter`] and [`Model::without_adapter`].
pub struct Model {
    config: Arc<Config>,
    place: Place,
    checkpointing: AtomicBool,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Model")
            .field("config", &self.config)
            .field("placement", &self.placement())
            .field("adapter", &self.lora())
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Loads a model folder in float32: `config.json` and `model.safetensors`, or the index of shards. bf16 and f16 are
    /// widened.
    ///
    /// # Errors
    /// A missing or truncated file, and every tensor that is missing, extra, of another shape or of an unread number type or
    /// not finite, each with file, tensor, what was expected and what was found.
    pub fn load(folder: &Path) -> Result<Model, ModelError> {
        Model::load_as(folder, Precision::Float32)
    }

    /// Loads a model folder and keeps the weights in this precision. In bfloat16 they take half the memory and cannot be
    /// trained; an adapter on them can.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn load_as(folder: &Path, precision: Precision) -> Result<Model, ModelError> {
        let config = Config::from_folder(folder)?;
        let weights = checkpoint::load(folder, &config, precision)?;
        Model::from_weights(config, weights)
    }

    fn from_weights(config: Config, weights: Vec<Weight>) -> Result<Model, ModelError> {
        let weights = Weights::deal(&config, weights)?;
        Model::on_host(Arc::new(config), weights, None)
    }

    fn on_host(config: Arc<Config>, weights: Weights, adapter: Option<Adapter>) -> Result<Model, ModelError> {
        let host = Host::new(&config, weights, adapter)?;
        Ok(Model::new(config, Place::Host(host)))
    }

    fn new(config: Arc<Config>, place: Place) -> Model {
        Model { config, place, checkpointing: AtomicBool::new(false) }
    }

    /// Writes `config.json`, `model.safetensors` and `generation_config.json` with torch's names, so that transformers and
    /// vLLM load them: weights in the precision in which they are kept, in float32 where they are trained. Each file is
    /// written beside its place and renamed, `config.json` last; a tied head is left out. An adapter is not written: see
    /// [`Model::save_adapter`] and [`Model::merge`].
    ///
    /// # Errors
    /// A file that cannot be written; a failed copy from a device.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        self.save_as(folder, self.stored_precision())
    }

    /// The precision of the numbers themselves: what is trained on a device in bfloat16 has float32 copies.
    fn stored_precision(&self) -> Precision {
        let placement = self.placement();
        if placement.device.is_cpu() || placement.frozen { placement.precision } else { Precision::Float32 }
    }

    /// Writes the model folder with the weights in this precision; bfloat16 rounds to nearest.
    ///
    /// # Errors
    /// A file that cannot be written; a failed copy from a device.
    pub fn save_as(&self, folder: &Path, precision: Precision) -> Result<(), ModelError> {
        let tensors: Vec<Written<'_>> = match &self.place {
            Place::Host(host) => {
                let weights = host.weights.base().into_iter();
                weights.map(|weight| Written::weight(weight.name().to_string(), weight)).collect()
            }
            Place::Device(device) => {
                let tensor = |(name, shape): (String, Vec<usize>)| {
                    let (wanted, count) = (name.clone(), shape.iter().product());
                    let read = move || Ok(Numbers::Copied(device.model.read(&wanted, count)?));
                    Written { name, shape, read: Box::new(read) }
                };
                self.config.parameter_shapes().into_iter().map(tensor).collect()
            }
        };
        checkpoint::save(folder, &self.config, &tensors, precision)
    }

    /// Writes the adapter in PEFT's layout; `base` is the base model's name or path, for PEFT's own use.
    ///
    /// # Errors
    /// A model without an adapter; a file that cannot be written; a failed copy from a device.
    pub fn save_adapter(&self, folder: &Path, base: Option<&str>) -> Result<(), ModelError> {
        match self.adapter()? {
            Some(adapter) => adapter.save(folder, base),
            None => Err(ModelError::input("this model has no adapter to save")),
        }
    }

    /// The same base with this adapter on it (in place of another, if there was one). The base's memory is shared and the
    /// adapter's matrices alone are trainable; adapter and model share the adapter's memory. On a device the matrices are copied to
    /// it, and the adapter that was given stays as it is.
    ///
    /// # Errors
    /// [`ModelError::OtherBase`] where the matrices do not fit, or the adapter is known to be trained on another base; on a
    /// device, memory that does not suffice.
    pub fn with_adapter(&self, mut adapter: Adapter) -> Result<Model, ModelError> {
        adapter.check(&self.config)?;
        adapter.bind(self.fingerprint()?)?;
        let place = match &self.place {
            Place::Host(host) => Place::Host(host.with_adapter(&self.config, Some(adapter))?),
            Place::Device(device) => Place::Device(device.with_adapter(&adapter)?),
        };
        Ok(Model::new(self.config.clone(), place))
    }

    /// The base alone, sharing this model's memory: the reference of a policy that is trained with an adapter.
    ///
    /// # Errors
    /// Only what candle reports of its own storage.
    pub fn without_adapter(&self) -> Result<Model, ModelError> {
        let place = match &self.place {
            Place::Host(host) => Place::Host(host.with_adapter(&self.config, None)?),
            Place::Device(device) => Place::Device(device.without_adapter()?),
        };
        Ok(Model::new(self.config.clone(), place))
    }

    /// A model of its own memory whose matrices hold the adapter's share, without an adapter; a plain copy of a model that
    /// has none.
    ///
    /// # Errors
    /// Only where memory cannot be had.
    pub fn merge(&self) -> Result<Model, ModelError> {
        match self.adapter()? {
            None => self.duplicate(),
            Some(adapter) => self.applied(&adapter, 1.0),
        }
    }

    /// A copy with the adapter's share taken out of the matrices again: within rounding the base that
    /// [`Model::merge`] began with. The copy has no adapter.
    ///
    /// # Errors
    /// [`ModelError::OtherBase`] where the matrices do not fit.
    pub fn unmerge(&self, adapter: &Adapter) -> Result<Model, ModelError> {
        adapter.check(&self.config)?;
        self.applied(adapter, -1.0)
    }

    fn applied(&self, adapter: &Adapter, sign: f32) -> Result<Model, ModelError> {
        match &self.place {
            Place::Host(host) => {
                let weights = merge::apply(&host.weights, adapter, sign)?;
                Model::on_host(self.config.clone(), weights, None)
            }
            // Merging is done once, so that it need not be done where it would be fastest.
            Place::Device(device) => {
                let merged = self.placed(Placement::default())?.applied(adapter, sign)?;
                merged.placed(device.placement)
            }
        }
    }

    /// A copy whose trainable numbers are its own: of all weights, or, with an adapter, of the adapter on the shared base.
    ///
    /// # Errors
    /// Only where memory cannot be had.
    pub fn duplicate(&self) -> Result<Model, ModelError> {
        let place = match &self.place {
            Place::Host(host) => match &host.adapter {
                Some(adapter) => Place::Host(host.with_adapter(&self.config, Some(adapter.duplicate()?))?),
                None => {
                    let weights = host.weights.base().into_iter().map(Weight::duplicate);
                    let weights = Weights::deal(&self.config, weights.collect::<Result<_, _>>()?)?;
                    Place::Host(Host::new(&self.config, weights, None)?)
                }
            },
            Place::Device(device) => Place::Device(device.duplicate()?),
        };
        Ok(Model::new(self.config.clone(), place))
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The shape of the adapter, if there is one.
    pub fn lora(&self) -> Option<&LoraConfig> {
        match &self.place {
            Place::Host(host) => host.adapter.as_ref().map(Adapter::config),
            Place::Device(device) => device.adapter.as_ref().map(|(config, _)| config),
        }
    }

    /// The adapter, if there is one: in the model's own memory, or copied from the device.
    ///
    /// # Errors
    /// A failed copy.
    pub fn adapter(&self) -> Result<Option<Adapter>, ModelError> {
        match &self.place {
            Place::Host(host) => Ok(host.adapter.clone()),
            Place::Device(device) => device.copied_adapter(&self.config),
        }
    }

    /// The precision in which the base's weights are kept; on a device that of weights and activations.
    pub fn precision(&self) -> Precision {
        self.placement().precision
    }

    /// Every trainable tensor of a model on the processor: the adapter's matrices where there is an adapter, else all weights
    /// under their Hugging Face names, in the order in which the forward pass meets them. None for a base kept in bfloat16,
    /// and none for a model on a device, whose numbers are not in this process's memory ([`Model::trainable`]).
    pub fn parameters(&self) -> &[Parameter] {
        match &self.place {
            Place::Host(host) => &host.parameters,
            Place::Device(_) => &[],
        }
    }

    /// What training changes, wherever it lies.
    pub fn trainable(&self) -> Trainable {
        match &self.place {
            Place::Host(host) => Trainable::Host(host.parameters.clone()),
            Place::Device(device) => {
                device.model.trained().map_or(Trainable::Host(Vec::new()), Trainable::Device)
            }
        }
    }

    /// Whether backward passes compute the layers again instead of keeping what the forward pass saw: a third more work for
    /// a fraction of the memory. Off at first.
    pub fn set_checkpointing(&self, on: bool) {
        self.checkpointing.store(on, Ordering::Relaxed);
    }

    /// Whether gradient checkpointing is on.
    pub fn checkpointing(&self) -> bool {
        self.checkpointing.load(Ordering::Relaxed)
    }

    /// The first weight that is NaN or infinite: its name, the place in it and the number.
    ///
    /// # Errors
    /// A failed copy from a device.
    pub fn first_not_finite(&self) -> Result<Option<(String, usize, f32)>, ModelError> {
        let broken = |name: &str, numbers: &[f32]| {
            let place = numbers.iter().position(|number| !number.is_finite())?;
            Some((name.to_string(), place, numbers[place]))
        };
        let found = match &self.place {
            Place::Host(host) => {
                host.weights.base().into_iter().find_map(|weight| broken(weight.name(), &weight.read()))
            }
            Place::Device(device) => {
                let mut found = None;
                for (name, shape) in self.config.parameter_shapes() {
                    found = broken(&name, &device.model.read(&name, shape.iter().product())?);
                    if found.is_some() {
                        break;
                    }
                }
                found
            }
        };
        let adapter = if found.is_none() { self.adapter()? } else { None };
        let matrices = adapter.iter().flat_map(Adapter::parameters);
        Ok(found.or_else(|| {
            matrices.into_iter().find_map(|parameter| broken(parameter.name(), &parameter.read()))
        }))
    }

    /// A number that tells this base from another of the same shape: FNV-1a over the vectors and the first row of every
    /// matrix, in bfloat16, so that a base gives the same number in either precision and on every device.
    ///
    /// # Errors
    /// A failed copy from a device.
    pub fn fingerprint(&self) -> Result<u64, ModelError> {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |numbers: &[f32]| {
            for byte in numbers.iter().flat_map(|number| half::bf16::from_f32(*number).to_le_bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        match &self.place {
            Place::Host(host) => {
                for weight in host.weights.base() {
                    add(&weight.read_part(0..weight.shape().last().copied().unwrap_or(0)));
                }
            }
            Place::Device(device) => {
                for (name, shape) in self.config.parameter_shapes() {
                    add(&device.model.read(&name, shape.last().copied().unwrap_or(0))?);
                }
            }
        }
        Ok(hash)
    }

    /// Where the model's numbers lie, and how.
    pub fn placement(&self) -> Placement {
        match &self.place {
            Place::Host(host) => {
                let precision = host.weights.embedding.precision();
                let frozen = host.adapter.is_some() || host.parameters.is_empty();
                Placement { device: Device::Cpu, precision, frozen }
            }
            Place::Device(device) => device.placement,
        }
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads {
            query: self.config.num_attention_heads,
            key: self.config.num_key_value_heads,
            width: self.config.head_width(),
        }
    }

    /// The model's memory on the processor.
    pub(crate) fn host(&self, what: &'static str) -> Result<&Host, ModelError> {
        match &self.place {
            Place::Host(host) => Ok(host),
            Place::Device(_) => Err(ModelError::OnDevice { what }),
        }
    }

    pub(crate) fn device(&self) -> Option<&OnDevice> {
        match &self.place {
            Place::Host(_) => None,
            Place::Device(device) => Some(device),
        }
    }

    pub(crate) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }
}
