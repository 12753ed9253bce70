//! The model: its weights, its adapters, and where they come from and go to.

mod forward;
mod random;
mod score;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{DType, Device, Tensor, Var};

use crate::checkpoint;
use crate::config::Config;
use crate::error::ModelError;
use crate::kernels::attention::Heads;
use crate::kernels::rows::Rotary;
use crate::layers::Weights;
use crate::lora::{Adapter, merge};
use crate::parameter::{Parameter, Precision, Weight};

pub use forward::Pass;
pub use score::TokenScores;

/// A decoder with its weights in memory, and an adapter on them where it has one.
///
/// Several models may share the memory of one base: see [`Model::with_adapter`] and [`Model::without_adapter`].
pub struct Model {
    config: Arc<Config>,
    /// The base's weights, with the adapter's pairs beside the projections.
    weights: Weights,
    adapter: Option<Adapter>,
    /// What training changes: the adapter's matrices, or all weights.
    parameters: Vec<Parameter>,
    /// The rotary table, made longer when a longer sequence comes.
    rotary: Arc<RwLock<Arc<Rotary>>>,
    /// A variable of one number that keeps the passes on candle's tape.
    thread: Var,
    checkpointing: AtomicBool,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Model")
            .field("config", &self.config)
            .field("adapter", &self.adapter.as_ref().map(Adapter::config))
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
        let parameters = weights.iter().filter_map(|weight| weight.parameter().cloned()).collect();
        let weights = Weights::deal(&config, weights)?;
        Model::assemble(Arc::new(config), weights, None, parameters)
    }

    fn assemble(
        config: Arc<Config>,
        weights: Weights,
        adapter: Option<Adapter>,
        parameters: Vec<Parameter>,
    ) -> Result<Model, ModelError> {
        let (frequencies, factor) = config.rotary_frequencies();
        let rotary = Arc::new(RwLock::new(Arc::new(Rotary::new(1, &frequencies, factor))));
        let thread = Var::zeros(1, DType::F32, &Device::Cpu)?;
        let checkpointing = AtomicBool::new(false);
        Ok(Model { config, weights, adapter, parameters, rotary, thread, checkpointing })
    }

    /// Writes `config.json`, `model.safetensors` and `generation_config.json` with torch's names, so that transformers and
    /// vLLM load them. Each file is written beside its place and renamed, `config.json` last; a tied head is left out. An
    /// adapter is not written: see [`Model::save_adapter`] and [`Model::merge`].
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        self.save_as(folder, self.precision())
    }

    /// Writes the model folder with the weights in this precision; bfloat16 rounds to nearest.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save_as(&self, folder: &Path, precision: Precision) -> Result<(), ModelError> {
        let weights: Vec<(String, Weight)> = self
            .weights
            .base()
            .into_iter()
            .map(|weight| (weight.name().to_string(), weight.clone()))
            .collect();
        checkpoint::save(folder, &self.config, &weights, precision)
    }

    /// Writes the adapter in PEFT's layout; `base` is the base model's name or path, for PEFT's own use.
    ///
    /// # Errors
    /// A model without an adapter; a file that cannot be written.
    pub fn save_adapter(&self, folder: &Path, base: Option<&str>) -> Result<(), ModelError> {
        match &self.adapter {
            Some(adapter) => adapter.save(folder, base),
            None => Err(ModelError::input("this model has no adapter to save")),
        }
    }

    /// The same base with this adapter on it (in place of another, if there was one). The base's memory is shared and the
    /// adapter's matrices alone are trainable; adapter and model share the adapter's memory.
    ///
    /// # Errors
    /// [`ModelError::OtherBase`] where the matrices do not fit, or the adapter is known to be trained on another base.
    pub fn with_adapter(&self, mut adapter: Adapter) -> Result<Model, ModelError> {
        adapter.check(&self.config)?;
        adapter.bind(self.fingerprint())?;
        let mut weights = self.weights.clone();
        for (index, layer) in weights.layers.iter_mut().enumerate() {
            let pairs = adapter.pairs(index);
            for (target, projection) in layer.projections_mut() {
                projection.adapter = pairs.iter().find(|(at, _)| *at == target).map(|(_, pair)| pair.clone());
            }
        }
        let parameters = adapter.parameters().to_vec();
        let model = Model::assemble(self.config.clone(), weights, Some(adapter), parameters)?;
        Ok(Model { rotary: self.rotary.clone(), ..model })
    }

    /// The base alone, sharing this model's memory: the reference of a policy that is trained with an adapter.
    ///
    /// # Errors
    /// Only what candle reports of its own storage.
    pub fn without_adapter(&self) -> Result<Model, ModelError> {
        let mut weights = self.weights.clone();
        for layer in &mut weights.layers {
            for (_, projection) in layer.projections_mut() {
                projection.adapter = None;
            }
        }
        let parameters =
            weights.base().into_iter().filter_map(|weight| weight.parameter().cloned()).collect();
        let model = Model::assemble(self.config.clone(), weights, None, parameters)?;
        Ok(Model { rotary: self.rotary.clone(), ..model })
    }

    /// A model of its own memory whose matrices hold the adapter's share, without an adapter; a plain copy of a model that
    /// has none.
    ///
    /// # Errors
    /// Only where memory cannot be had.
    pub fn merge(&self) -> Result<Model, ModelError> {
        match &self.adapter {
            None => self.duplicate(),
            Some(adapter) => self.applied(adapter, 1.0),
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
        let weights = merge::apply(&self.weights, adapter, sign)?;
        let parameters =
            weights.base().into_iter().filter_map(|weight| weight.parameter().cloned()).collect();
        Model::assemble(self.config.clone(), weights, None, parameters)
    }

    /// A copy whose trainable numbers are its own: of all weights, or, with an adapter, of the adapter on the shared base.
    ///
    /// # Errors
    /// Only where memory cannot be had.
    pub fn duplicate(&self) -> Result<Model, ModelError> {
        if let Some(adapter) = &self.adapter {
            return self.with_adapter(adapter.duplicate()?);
        }
        let weights =
            self.weights.base().into_iter().map(Weight::duplicate).collect::<Result<Vec<_>, _>>()?;
        Model::from_weights((*self.config).clone(), weights)
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The adapter, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The precision in which the base's weights are kept.
    pub fn precision(&self) -> Precision {
        self.weights.embedding.precision()
    }

    /// Every trainable tensor: the adapter's matrices where there is an adapter, else all weights under their Hugging Face
    /// names, in the order in which the forward pass meets them. None for a base kept in bfloat16.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
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
    pub fn first_not_finite(&self) -> Option<(String, usize, f32)> {
        let adapter = self.adapter.iter().flat_map(Adapter::parameters).cloned().map(Weight::Float32);
        let base = self.weights.base().into_iter().cloned();
        base.chain(adapter).find_map(|weight| {
            weight.first_not_finite().map(|(place, value)| (weight.name().to_string(), place, value))
        })
    }

    /// A number that tells this base from another of the same shape: FNV-1a over the vectors and the first row of every
    /// matrix, in bfloat16, so that a base gives the same number in either precision.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for weight in self.weights.base() {
            let row = weight.shape().last().copied().unwrap_or(0);
            for number in weight.read_part(0..row).iter() {
                for byte in half::bf16::from_f32(*number).to_le_bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        }
        hash
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads {
            query: self.config.num_attention_heads,
            key: self.config.num_key_value_heads,
            width: self.config.head_width(),
        }
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    pub(crate) fn thread(&self) -> &Tensor {
        self.thread.as_tensor()
    }

    pub(crate) fn epsilon(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    /// The rotary table for at least `positions` positions.
    pub(crate) fn rotary(&self, positions: usize) -> Arc<Rotary> {
        let table = self.rotary.read().unwrap_or_else(PoisonError::into_inner).clone();
        if table.positions() >= positions {
            return table;
        }
        let (frequencies, factor) = self.config.rotary_frequencies();
        let longer = Arc::new(Rotary::new(positions.next_power_of_two(), &frequencies, factor));
        *self.rotary.write().unwrap_or_else(PoisonError::into_inner) = longer.clone();
        longer
    }
}
