//! Where a model's numbers lie: in this process's memory, or on a device.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{DType, Device as Memory, Tensor, Var};

use super::Model;
use crate::checkpoint::ModelFiles;
use crate::config::Config;
use crate::device::{self, Device, DeviceError, DeviceModel, Part, Placement, Trainable};
use crate::error::ModelError;
use crate::kernels::rows::Rotary;
use crate::layers::Weights;
use crate::lora::{Adapter, LoraConfig};
use crate::parameter::{Parameter, Precision, Weight};

/// Gives the numbers of a weight by its name and shape.
type ReadWeight<'a> = &'a mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>, ModelError>;

pub(super) enum Place {
    Host(Host),
    Device(OnDevice),
}

/// A model in this process's memory.
pub(crate) struct Host {
    /// The base's weights, with the adapter's pairs beside the projections.
    pub(crate) weights: Weights,
    pub(super) adapter: Option<Adapter>,
    /// What training changes: the adapter's matrices, or all weights.
    pub(super) parameters: Vec<Parameter>,
    /// The rotary table, made longer when a longer sequence comes.
    rotary: Arc<RwLock<Arc<Rotary>>>,
    /// A variable of one number that keeps the passes on candle's tape.
    thread: Var,
}

impl Host {
    pub(super) fn new(
        config: &Config,
        weights: Weights,
        adapter: Option<Adapter>,
    ) -> Result<Host, ModelError> {
        let (frequencies, factor) = config.rotary_frequencies();
        let rotary = Arc::new(RwLock::new(Arc::new(Rotary::new(1, &frequencies, factor))));
        Host::sharing(weights, adapter, rotary)
    }

    fn sharing(
        weights: Weights,
        adapter: Option<Adapter>,
        rotary: Arc<RwLock<Arc<Rotary>>>,
    ) -> Result<Host, ModelError> {
        let parameters = match &adapter {
            Some(adapter) => adapter.parameters().to_vec(),
            None => weights.base().into_iter().filter_map(|weight| weight.parameter().cloned()).collect(),
        };
        let thread = Var::zeros(1, DType::F32, &Memory::Cpu)?;
        Ok(Host { weights, adapter, parameters, rotary, thread })
    }

    /// The same base with this adapter, or none, in place of the one that is there.
    pub(super) fn with_adapter(&self, config: &Config, adapter: Option<Adapter>) -> Result<Host, ModelError> {
        let mut weights = self.weights.clone();
        for (index, layer) in weights.layers.iter_mut().enumerate() {
            let pairs = adapter.as_ref().map_or_else(Vec::new, |adapter| adapter.pairs(index));
            for (target, projection) in layer.projections_mut() {
                projection.adapter = pairs.iter().find(|(at, _)| *at == target).map(|(_, pair)| pair.clone());
            }
        }
        debug_assert_eq!(weights.layers.len(), config.num_hidden_layers);
        Host::sharing(weights, adapter, self.rotary.clone())
    }

    pub(crate) fn thread(&self) -> &Tensor {
        self.thread.as_tensor()
    }

    /// The rotary table for at least `positions` positions.
    pub(crate) fn rotary(&self, config: &Config, positions: usize) -> Arc<Rotary> {
        let table = self.rotary.read().unwrap_or_else(PoisonError::into_inner).clone();
        if table.positions() >= positions {
            return table;
        }
        let (frequencies, factor) = config.rotary_frequencies();
        let longer = Arc::new(Rotary::new(positions.next_power_of_two(), &frequencies, factor));
        *self.rotary.write().unwrap_or_else(PoisonError::into_inner) = longer.clone();
        longer
    }
}

/// A model on a device.
pub(crate) struct OnDevice {
    pub(crate) model: Arc<dyn DeviceModel>,
    pub(super) placement: Placement,
    /// The adapter's shape, and the base that it is known to belong to; its numbers are on the device.
    pub(super) adapter: Option<(LoraConfig, Option<u64>)>,
}

impl OnDevice {
    pub(super) fn with_adapter(&self, adapter: &Adapter) -> Result<OnDevice, ModelError> {
        let mut read = |name: &str| {
            let found = adapter.parameters().iter().find(|parameter| parameter.name() == name);
            found.map(Parameter::numbers).ok_or_else(|| DeviceError::input(format!("{name} is missing")))
        };
        let model = self.model.with_adapter(adapter.config(), &mut read)?;
        let adapter = Some((adapter.config().clone(), adapter.base()));
        Ok(OnDevice { model, placement: self.placement, adapter })
    }

    pub(super) fn without_adapter(&self) -> Result<OnDevice, ModelError> {
        Ok(OnDevice { model: self.model.without_adapter()?, placement: self.placement, adapter: None })
    }

    pub(super) fn duplicate(&self) -> Result<OnDevice, ModelError> {
        let model = self.model.duplicate()?;
        Ok(OnDevice { model, placement: self.placement, adapter: self.adapter.clone() })
    }

    /// The adapter with its numbers in this process's memory.
    pub(super) fn copied_adapter(&self, model: &Config) -> Result<Option<Adapter>, ModelError> {
        let Some((config, base)) = &self.adapter else { return Ok(None) };
        let trained = self.model.trained();
        let mut read = |name: &str| match &trained {
            Some(parameters) => parameters.read(name, Part::Value),
            None => Err(ModelError::input(format!("the device does not hold {name}"))),
        };
        Adapter::read(config, *base, config.parameter_shapes(model), &mut read).map(Some)
    }
}

impl Model {
    /// Loads a model folder to this place. Onto a device the weights go one at a time, straight from the file.
    ///
    /// # Errors
    /// Those of [`Model::load`]; a device that is not there, sizes that its kernels do not compute, memory that does not suffice.
    pub fn load_on(folder: &Path, placement: Placement) -> Result<Model, ModelError> {
        if placement.device == Device::Cpu {
            return Model::load_as(folder, placement.precision);
        }
        let config = Config::from_folder(folder)?;
        let files = ModelFiles::open(folder, &config)?;
        Model::on_device(Arc::new(config), placement, &mut |name, shape| files.read(name, shape))
    }

    /// The same model in another place: a copy there, of the base and of the adapter. What is trained is copied unrounded.
    ///
    /// # Errors
    /// A device that is not there, sizes that its kernels do not compute, memory that does not suffice, a failed copy.
    pub fn placed(&self, placement: Placement) -> Result<Model, ModelError> {
        let mut read = |name: &str, shape: &[usize]| self.base_numbers(name, shape);
        let base = if placement.device == Device::Cpu {
            let weights = self.config.parameter_shapes().into_iter();
            let weights = weights
                .map(|(name, shape)| Weight::new(&name, read(&name, &shape)?, &shape, placement.precision))
                .collect::<Result<Vec<_>, ModelError>>()?;
            Model::on_host(self.config.clone(), Weights::deal(&self.config, weights)?, None)?
        } else {
            Model::on_device(self.config.clone(), placement, &mut read)?
        };
        let placed = match self.adapter()? {
            Some(adapter) => base.with_adapter(adapter.duplicate()?)?,
            None => base,
        };
        placed.set_checkpointing(self.checkpointing());
        Ok(placed)
    }

    /// All numbers of a weight of the base.
    fn base_numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        match &self.place {
            Place::Host(host) => {
                let weight = host.weights.base().into_iter().find(|weight| weight.name() == name);
                let weight = weight.ok_or_else(|| ModelError::input(format!("there is no weight {name}")))?;
                Ok(weight.read().to_vec())
            }
            Place::Device(device) => Ok(device.model.read(name, shape.iter().product())?),
        }
    }

    fn on_device(
        config: Arc<Config>,
        placement: Placement,
        read: ReadWeight<'_>,
    ) -> Result<Model, ModelError> {
        let shapes: std::collections::HashMap<String, Vec<usize>> =
            config.parameter_shapes().into_iter().collect();
        // The device knows nothing of files: what one of them says is kept beside its answer.
        let mut failure = None;
        let opened = device::open(placement, &config, &mut |name| {
            let shape = shapes.get(name).ok_or_else(|| DeviceError::input(format!("no weight {name}")))?;
            read(name, shape).map_err(|error| {
                let said = DeviceError::input(error.to_string());
                failure = Some(error);
                said
            })
        });
        match (opened, failure) {
            (Ok(model), _) => {
                let device = OnDevice { model, placement, adapter: None };
                Ok(Model::new(config, Place::Device(device)))
            }
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// Whether gradients of the base are wanted: there is no adapter to train instead.
    pub(super) fn trains_base(&self) -> bool {
        self.lora().is_none()
    }

    /// Makes sure that there is something to train.
    pub(super) fn check_trainable(&self) -> Result<(), ModelError> {
        match (self.trainable(), self.precision()) {
            (Trainable::Host(parameters), Precision::Bfloat16) if parameters.is_empty() => {
                Err(ModelError::Frozen { what: "training all weights" })
            }
            (Trainable::Host(parameters), _) if parameters.is_empty() => {
                Err(ModelError::input("nothing of this model is trained: it was placed to stay as it is"))
            }
            _ => Ok(()),
        }
    }
}
