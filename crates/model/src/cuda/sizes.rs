//! The shape of a decoder, and how the engine holds it.

use super::driver::Precision;
use crate::config::Config;
use crate::device::DeviceError;
use crate::lora::{LoraConfig, Target};

/// Names and shapes of parameters.
pub type Shapes = Vec<(String, Vec<usize>)>;

/// The sizes of a decoder: what of `config.json` changes what is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the residual stream; a multiple of 8.
    pub hidden: usize,
    /// Width of the feed-forward layer; a multiple of 8.
    pub feed_forward: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub key_heads: usize,
    /// Width of a head; a multiple of 8, at most 256.
    pub head_width: usize,
    /// The ε of RMSNorm.
    pub epsilon: f32,
    /// Whether the head shares the embedding's matrix.
    pub tied: bool,
    /// Whether queries, keys and values have a bias (Qwen2).
    pub bias: bool,
    /// Whether each query and key head is normed before the rotary embedding (Qwen3).
    pub head_norms: bool,
    /// The rotary embedding's inverse frequencies, one for each pair of a head, after whatever scaling the model asks for.
    pub inverse_frequencies: Vec<f32>,
    /// Factor on the rotary embedding's cosines and sines: 1 but for `yarn`.
    pub rotary_factor: f32,
    /// Longest sequence, in tokens.
    pub positions: usize,
}

/// A matrix that an adapter can be put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Module {
    /// `self_attn.q_proj`
    Query,
    /// `self_attn.k_proj`
    Key,
    /// `self_attn.v_proj`
    Value,
    /// `self_attn.o_proj`
    Out,
    /// `mlp.gate_proj`
    Gate,
    /// `mlp.up_proj`
    Up,
    /// `mlp.down_proj`
    Down,
}

impl Module {
    /// All seven.
    pub const ALL: [Module; 7] =
        [Module::Query, Module::Key, Module::Value, Module::Out, Module::Gate, Module::Up, Module::Down];

    /// Its name within a layer.
    pub fn name(self) -> &'static str {
        match self {
            Module::Query => "self_attn.q_proj",
            Module::Key => "self_attn.k_proj",
            Module::Value => "self_attn.v_proj",
            Module::Out => "self_attn.o_proj",
            Module::Gate => "mlp.gate_proj",
            Module::Up => "mlp.up_proj",
            Module::Down => "mlp.down_proj",
        }
    }
}

/// A LoRA adapter on the frozen model: y += scale · B A x.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSettings {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// Factor of the product: alpha / rank, or alpha / √rank for rsLoRA.
    pub scale: f32,
    /// Where it is put, in every layer.
    pub modules: Vec<Module>,
    /// Share of the adapter's inputs that training leaves out.
    pub dropout: f32,
}

impl From<Target> for Module {
    fn from(target: Target) -> Module {
        match target {
            Target::Query => Module::Query,
            Target::Key => Module::Key,
            Target::Value => Module::Value,
            Target::Out => Module::Out,
            Target::Gate => Module::Gate,
            Target::Up => Module::Up,
            Target::Down => Module::Down,
        }
    }
}

impl From<&LoraConfig> for AdapterSettings {
    fn from(config: &LoraConfig) -> AdapterSettings {
        let targets = Target::ALL.into_iter().filter(|target| config.target_modules.contains(target));
        AdapterSettings {
            rank: config.rank,
            scale: config.scale(),
            modules: targets.map(Module::from).collect(),
            dropout: config.dropout,
        }
    }
}

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Trained {
    /// Nothing: the engine only scores and generates.
    Nothing,
    /// Every parameter.
    All,
    /// An adapter, with the model's own parameters frozen.
    Adapter(AdapterSettings),
}

/// How the engine works.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Type of weights and activations; the driver must have been made for it.
    pub precision: Precision,
    /// What is trained.
    pub trained: Trained,
    /// Keep only each layer's input and compute the layer again in the backward pass.
    pub checkpointing: bool,
    /// Logits that exist at a time, unless 16 rows need more: 4 bytes each, in the backward pass as many again of the precision.
    /// Each chunk goes over the whole gradient of the head once, so that few large ones are faster.
    pub logits: usize,
}

impl Default for Settings {
    /// bf16, everything trained, no checkpointing, 1 GiB of logits at a time.
    fn default() -> Settings {
        Settings { precision: Precision::Bf16, trained: Trained::All, checkpointing: false, logits: 1 << 28 }
    }
}

impl Sizes {
    /// The sizes of a model.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] for an architecture that is not known, and what [`Sizes::check`] refuses.
    pub fn of(config: &Config) -> Result<Sizes, DeviceError> {
        let architecture = config.architecture().ok_or_else(|| DeviceError::Unsupported {
            what: format!("model_type {} is not known", config.model_type),
        })?;
        let (inverse_frequencies, rotary_factor) = config.rotary_frequencies();
        let sizes = Sizes {
            vocabulary: config.vocab_size,
            hidden: config.hidden_size,
            feed_forward: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads,
            head_width: config.head_width(),
            epsilon: config.rms_norm_eps as f32,
            tied: config.tie_word_embeddings,
            bias: architecture.has_bias(),
            head_norms: architecture.has_head_norms(),
            inverse_frequencies,
            rotary_factor,
            positions: config.max_position_embeddings,
        };
        sizes.check()?;
        Ok(sizes)
    }

    /// Checks that the kernels compute this shape.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] with the size and what would be supported.
    pub fn check(&self) -> Result<(), DeviceError> {
        let refuse = |what: String| Err(DeviceError::Unsupported { what });
        for (name, value) in [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.feed_forward),
            ("head_dim", self.head_width),
        ] {
            if value == 0 || !value.is_multiple_of(8) {
                return refuse(format!("{name} is {value}; the GPU kernels need a multiple of 8"));
            }
        }
        if self.head_width > 256 {
            return refuse(format!("a head is {} wide; the GPU kernels go up to 256", self.head_width));
        }
        if self.key_heads == 0 || !self.heads.is_multiple_of(self.key_heads) {
            return refuse(format!("{} query heads do not share {} key heads", self.heads, self.key_heads));
        }
        if self.inverse_frequencies.len() != self.head_width / 2 {
            return refuse(format!(
                "{} rotary frequencies for a head of {}",
                self.inverse_frequencies.len(),
                self.head_width
            ));
        }
        if self.vocabulary == 0 || self.layers == 0 || self.positions == 0 {
            return refuse("a model without vocabulary, layers or positions".into());
        }
        Ok(())
    }

    /// Numbers of a row of queries, keys and values.
    pub(crate) fn qkv(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.head_width
    }

    /// Numbers of a row of queries.
    pub(crate) fn queries(&self) -> usize {
        self.heads * self.head_width
    }

    /// Numbers of a row of keys.
    pub(crate) fn keys(&self) -> usize {
        self.key_heads * self.head_width
    }

    /// Outputs and inputs of a module's matrix.
    pub(crate) fn module(&self, module: Module) -> (usize, usize) {
        match module {
            Module::Query => (self.queries(), self.hidden),
            Module::Key | Module::Value => (self.keys(), self.hidden),
            Module::Out => (self.hidden, self.queries()),
            Module::Gate | Module::Up => (self.feed_forward, self.hidden),
            Module::Down => (self.hidden, self.feed_forward),
        }
    }

    /// Name and shape of every parameter: the matrices, which decay, then the vectors, which do not. Matrices that one product
    /// goes through (query, key, value; gate, up) are neighbours.
    pub fn parameters(&self) -> (Shapes, Shapes) {
        let mut matrices =
            vec![("model.embed_tokens.weight".to_string(), vec![self.vocabulary, self.hidden])];
        let mut vectors = Vec::new();
        for layer in 0..self.layers {
            let name = |rest: &str| format!("model.layers.{layer}.{rest}");
            for module in Module::ALL {
                let (rows, columns) = self.module(module);
                matrices.push((name(&format!("{}.weight", module.name())), vec![rows, columns]));
            }
            vectors.push((name("input_layernorm.weight"), vec![self.hidden]));
            if self.bias {
                for module in [Module::Query, Module::Key, Module::Value] {
                    vectors.push((name(&format!("{}.bias", module.name())), vec![self.module(module).0]));
                }
            }
            if self.head_norms {
                for norm in ["self_attn.q_norm.weight", "self_attn.k_norm.weight"] {
                    vectors.push((name(norm), vec![self.head_width]));
                }
            }
            vectors.push((name("post_attention_layernorm.weight"), vec![self.hidden]));
        }
        vectors.push(("model.norm.weight".into(), vec![self.hidden]));
        if !self.tied {
            matrices.push(("lm_head.weight".into(), vec![self.vocabulary, self.hidden]));
        }
        (matrices, vectors)
    }

    /// Name and shape of every matrix of an adapter.
    pub fn adapter(&self, settings: &AdapterSettings) -> Shapes {
        let mut matrices = Vec::new();
        for layer in 0..self.layers {
            for &module in &settings.modules {
                let (rows, columns) = self.module(module);
                let name = format!("model.layers.{layer}.{}", module.name());
                matrices.push((format!("{name}.lora_A.weight"), vec![settings.rank, columns]));
                matrices.push((format!("{name}.lora_B.weight"), vec![rows, settings.rank]));
            }
        }
        matrices
    }
}
