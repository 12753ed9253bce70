//! Low-rank adapters (LoRA; Hu et al., 2021): `W·x + s·B·(A·x)` with W frozen, A `[rank, inputs]` and B `[outputs, rank]`.
//!
//! Several adapters may stand on one base: [`crate::Model::with_adapter`] gives a model that shares the base's memory.

mod files;
pub(crate) mod merge;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::ModelError;
use crate::parameter::Parameter;

/// A projection that an adapter can stand beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// `self_attn.q_proj`
    #[serde(rename = "q_proj")]
    Query,
    /// `self_attn.k_proj`
    #[serde(rename = "k_proj")]
    Key,
    /// `self_attn.v_proj`
    #[serde(rename = "v_proj")]
    Value,
    /// `self_attn.o_proj`
    #[serde(rename = "o_proj")]
    Out,
    /// `mlp.gate_proj`
    #[serde(rename = "gate_proj")]
    Gate,
    /// `mlp.up_proj`
    #[serde(rename = "up_proj")]
    Up,
    /// `mlp.down_proj`
    #[serde(rename = "down_proj")]
    Down,
}

impl Target {
    /// All of them, which is `all-linear` in PEFT.
    pub const ALL: [Target; 7] =
        [Target::Query, Target::Key, Target::Value, Target::Out, Target::Gate, Target::Up, Target::Down];

    /// The module's name inside a layer.
    pub fn module(self) -> &'static str {
        match self {
            Target::Query => "self_attn.q_proj",
            Target::Key => "self_attn.k_proj",
            Target::Value => "self_attn.v_proj",
            Target::Out => "self_attn.o_proj",
            Target::Gate => "mlp.gate_proj",
            Target::Up => "mlp.up_proj",
            Target::Down => "mlp.down_proj",
        }
    }

    /// The last part of its name, as `target_modules` lists it.
    pub fn name(self) -> &'static str {
        let module = self.module();
        module.rsplit('.').next().unwrap_or(module)
    }

    /// Outputs and inputs in a model of this shape.
    pub(crate) fn sizes(self, config: &Config) -> (usize, usize) {
        let (hidden, feed, width) = (config.hidden_size, config.intermediate_size, config.head_width());
        match self {
            Target::Query => (config.num_attention_heads * width, hidden),
            Target::Key | Target::Value => (config.num_key_value_heads * width, hidden),
            Target::Out => (hidden, config.num_attention_heads * width),
            Target::Gate | Target::Up => (feed, hidden),
            Target::Down => (hidden, feed),
        }
    }
}

/// The shape of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Share of the adapter's inputs that a training pass sets to zero (the rest is scaled up to match).
    pub dropout: f32,
    /// The projections that get an adapter.
    pub target_modules: Vec<Target>,
    /// Scale by `alpha / √rank` instead (rsLoRA; Kalajdzievski, 2023).
    pub rank_stabilized: bool,
}

impl Default for LoraConfig {
    /// Rank 16, alpha 32, no dropout, all projections.
    fn default() -> Self {
        LoraConfig {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            target_modules: Target::ALL.to_vec(),
            rank_stabilized: false,
        }
    }
}

impl LoraConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ModelError::InvalidConfig`] names the field.
    pub fn check(&self) -> Result<(), ModelError> {
        let invalid = |what: String| Err(ModelError::InvalidConfig { what });
        if self.rank == 0 {
            return invalid("an adapter of rank 0 learns nothing: rank must be at least 1".into());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return invalid(format!("alpha is {}, but must be a positive number", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return invalid(format!("dropout is {}, but must lie in 0..1", self.dropout));
        }
        if self.target_modules.is_empty() {
            return invalid("target_modules is empty: an adapter needs at least one projection".into());
        }
        let mut seen = self.target_modules.clone();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() != self.target_modules.len() {
            return invalid("target_modules names a projection twice".into());
        }
        Ok(())
    }

    /// What the adapter's output is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f64;
        (self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }) as f32
    }

    /// Name and shape of every matrix for a model of this shape, layer by layer.
    pub fn parameter_shapes(&self, config: &Config) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Vec::new();
        for layer in 0..config.num_hidden_layers {
            for target in Target::ALL.into_iter().filter(|target| self.target_modules.contains(target)) {
                let (outputs, inputs) = target.sizes(config);
                let name = |matrix: &str| format!("model.layers.{layer}.{}.{matrix}.weight", target.module());
                shapes.push((name("lora_A"), vec![self.rank, inputs]));
                shapes.push((name("lora_B"), vec![outputs, self.rank]));
            }
        }
        shapes
    }

    /// Number of trainable numbers for a model of this shape.
    pub fn parameters(&self, config: &Config) -> usize {
        self.parameter_shapes(config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

/// The two matrices beside one projection.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// `[rank, inputs]`
    pub(crate) a: Parameter,
    /// `[outputs, rank]`
    pub(crate) b: Parameter,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
}

/// A set of low-rank matrices for the layers of one base model.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: LoraConfig,
    /// A and B of every layer and target, in the order of [`LoraConfig::parameter_shapes`].
    parameters: Vec<Parameter>,
    /// The base that it was trained on, where that is known.
    base: Option<u64>,
}

impl Adapter {
    /// A new adapter that changes nothing yet: A is uniform in ±1/√inputs (PEFT's Kaiming initialisation with a = √5), B is
    /// zero. The same seed gives the same bits.
    ///
    /// # Errors
    /// A configuration that [`LoraConfig::check`] refuses.
    pub fn new(config: LoraConfig, model: &Config, seed: u64) -> Result<Adapter, ModelError> {
        config.check()?;
        let mut parameters = Vec::new();
        for (index, (name, shape)) in config.parameter_shapes(model).into_iter().enumerate() {
            let count: usize = shape.iter().product();
            let values = if index.is_multiple_of(2) {
                let bound = 1.0 / (shape[1] as f32).sqrt();
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream(index as u64);
                (0..count).map(|_| random.random_range(-bound..bound)).collect()
            } else {
                vec![0.0; count]
            };
            parameters.push(Parameter::new(name, values, shape)?);
        }
        Ok(Adapter { config, parameters, base: None })
    }

    /// The adapter with its numbers taken from `read`, matrix by matrix.
    pub(crate) fn read(
        config: &LoraConfig,
        base: Option<u64>,
        shapes: Vec<(String, Vec<usize>)>,
        read: &mut dyn FnMut(&str) -> Result<Vec<f32>, ModelError>,
    ) -> Result<Adapter, ModelError> {
        let parameters = shapes
            .into_iter()
            .map(|(name, shape)| Parameter::new(name.clone(), read(&name)?, shape))
            .collect::<Result<_, _>>()?;
        Ok(Adapter { config: config.clone(), parameters, base })
    }

    /// The base that it is known to belong to.
    pub(crate) fn base(&self) -> Option<u64> {
        self.base
    }

    /// Its shape.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Its matrices: A and B of each layer and target.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// A copy that shares no memory with this adapter.
    ///
    /// # Errors
    /// Only where memory cannot be had.
    pub fn duplicate(&self) -> Result<Adapter, ModelError> {
        let parameters = self
            .parameters
            .iter()
            .map(|parameter| {
                Parameter::new(parameter.name(), parameter.numbers(), parameter.shape().to_vec())
            })
            .collect::<Result<_, _>>()?;
        Ok(Adapter { config: self.config.clone(), parameters, base: self.base })
    }

    /// The pairs of one layer.
    pub(crate) fn pairs(&self, layer: usize) -> Vec<(Target, Pair)> {
        let targets: Vec<Target> =
            Target::ALL.into_iter().filter(|target| self.config.target_modules.contains(target)).collect();
        let first = layer * targets.len() * 2;
        let pair = |index: usize| Pair {
            a: self.parameters[first + 2 * index].clone(),
            b: self.parameters[first + 2 * index + 1].clone(),
            scale: self.config.scale(),
            dropout: self.config.dropout,
        };
        targets.into_iter().enumerate().map(|(index, target)| (target, pair(index))).collect()
    }

    /// Checks that the matrices fit a model of this shape.
    pub(crate) fn check(&self, model: &Config) -> Result<(), ModelError> {
        let shapes = self.config.parameter_shapes(model);
        if shapes.len() != self.parameters.len() {
            return Err(ModelError::OtherBase {
                what: format!(
                    "it holds {} matrices, a model of {} layers takes {}",
                    self.parameters.len(),
                    model.num_hidden_layers,
                    shapes.len()
                ),
            });
        }
        for ((name, shape), parameter) in shapes.iter().zip(&self.parameters) {
            if parameter.shape() != shape {
                return Err(ModelError::OtherBase {
                    what: format!("{name} has shape {:?}, this model takes {shape:?}", parameter.shape()),
                });
            }
        }
        Ok(())
    }
}
