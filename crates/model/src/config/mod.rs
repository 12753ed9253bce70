//! `config.json` of a Qwen2, Qwen3 or Llama model.

mod rope;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

pub use rope::RopeParameters;

/// The decoders that this engine computes. They differ in biases, in norms of the heads and in names alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Qwen2, Qwen2.5, Qwen2.5-Coder: biases on query, key and value.
    Qwen2,
    /// Qwen3 (dense): no biases, RMSNorm on every query and key head before the rotary embedding.
    Qwen3,
    /// Llama 2 and 3 and what shares their shape: neither.
    Llama,
}

impl Architecture {
    /// The name under `architectures` in `config.json`.
    pub fn class_name(self) -> &'static str {
        match self {
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
            Architecture::Llama => "LlamaForCausalLM",
        }
    }

    /// Whether query, key and value have biases.
    pub fn has_bias(self) -> bool {
        self == Architecture::Qwen2
    }

    /// Whether query and key heads are normed.
    pub fn has_head_norms(self) -> bool {
        self == Architecture::Qwen3
    }
}

/// The shape of a decoder, with the field names of `config.json`.
///
/// Keys that do not change what is computed are ignored; keys that would change it and are not supported are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The architecture's name: `qwen2`, `qwen3` or `llama`.
    #[serde(default = "default_model_type")]
    pub model_type: String,
    /// Number of token ids, the rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; each serves `num_attention_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; `hidden_size / num_attention_heads` where the file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Longest sequence, in tokens.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// The ε of RMSNorm.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding, after [`Config::from_folder`] wherever the file keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Where newer files keep the rotary base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeParameters>,
    /// Where older files keep the scaling of the rotary embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeParameters>,
    /// Whether the head shares the embedding's matrix.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether some layers look only at a window; refused when true.
    #[serde(default)]
    pub use_sliding_window: bool,
    /// The kind of attention of each layer; anything but `full_attention` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<String>>,
    /// Biases on all projections of attention (an option of Qwen3 and Llama that no published model of theirs uses); refused
    /// when true.
    #[serde(default)]
    pub attention_bias: bool,
    /// Biases on the feed-forward projections; refused when true.
    #[serde(default)]
    pub mlp_bias: bool,
    /// How quantised weights are stored; refused where present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization_config: Option<serde_json::Value>,
    /// The activation of the feed-forward gate; only `silu`.
    #[serde(default = "default_activation")]
    pub hidden_act: String,
    /// Standard deviation of random initial weights.
    #[serde(default = "default_initializer_range")]
    pub initializer_range: f64,
    /// The id that begins a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<serde_json::Value>,
    /// The id (or ids) that end a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<serde_json::Value>,
    /// The id that fills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_token_id: Option<serde_json::Value>,
}

fn default_model_type() -> String {
    "qwen2".into()
}
fn default_positions() -> usize {
    32_768
}
fn default_epsilon() -> f64 {
    1e-6
}
fn default_activation() -> String {
    "silu".into()
}
fn default_initializer_range() -> f64 {
    0.02
}

impl Config {
    /// A configuration from its sizes, with tied embeddings and the usual constants of the architecture.
    pub fn new(
        vocab_size: usize,
        hidden_size: usize,
        intermediate_size: usize,
        num_hidden_layers: usize,
        num_attention_heads: usize,
        num_key_value_heads: usize,
    ) -> Config {
        Config {
            model_type: default_model_type(),
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim: None,
            max_position_embeddings: 2048,
            rms_norm_eps: default_epsilon(),
            rope_theta: Some(10_000.0),
            rope_parameters: None,
            rope_scaling: None,
            tie_word_embeddings: true,
            use_sliding_window: false,
            layer_types: None,
            attention_bias: false,
            mlp_bias: false,
            quantization_config: None,
            hidden_act: default_activation(),
            initializer_range: default_initializer_range(),
            bos_token_id: None,
            eos_token_id: None,
            pad_token_id: None,
        }
    }

    /// Reads and checks `config.json` of a model folder.
    ///
    /// # Errors
    /// A file that cannot be read or understood, and everything that [`Config::check`] refuses.
    pub fn from_folder(folder: &Path) -> Result<Config, ModelError> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|source| ModelError::io(&path, source))?;
        let config: Config = serde_json::from_slice(&text)
            .map_err(|error| ModelError::ConfigSyntax { path: path.clone(), message: error.to_string() })?;
        config.check()?;
        Ok(config)
    }

    /// Checks that this is a model the engine computes exactly.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for another architecture, activation, sliding windows or scaled rotary embeddings;
    /// [`ModelError::InvalidConfig`] for sizes that do not fit each other.
    pub fn check(&self) -> Result<(), ModelError> {
        let unsupported = |key: &str, found: &str, supported: &str| {
            Err(ModelError::Unsupported { key: key.into(), found: found.into(), supported: supported.into() })
        };
        if self.architecture().is_none() {
            return unsupported(
                "model_type",
                &self.model_type,
                "qwen2 (Qwen2, Qwen2.5, Qwen2.5-Coder), qwen3 (dense) and llama",
            );
        }
        if self.hidden_act != "silu" {
            return unsupported("hidden_act", &self.hidden_act, "silu");
        }
        let full = "full attention in every layer (use_sliding_window = false)";
        if self.use_sliding_window {
            return unsupported("use_sliding_window", "true", full);
        }
        if let Some(kind) = self.layer_types.iter().flatten().find(|kind| *kind != "full_attention") {
            return unsupported("layer_types", kind, full);
        }
        for (key, set) in [("attention_bias", self.attention_bias), ("mlp_bias", self.mlp_bias)] {
            if set {
                return unsupported(key, "true", &format!("{key} = false"));
            }
        }
        if self.quantization_config.is_some() {
            return unsupported("quantization_config", "set", "weights in float32, bfloat16 or float16");
        }
        self.check_rope()?;
        let invalid = |what: String| Err(ModelError::InvalidConfig { what });
        for (key, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 || value > 1 << 31 {
                return invalid(format!("{key} is {value}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return invalid(format!(
                "num_attention_heads {} is no multiple of num_key_value_heads {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if self.head_dim.is_none()
            && self.architecture() != Some(Architecture::Qwen3)
            && !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            return invalid(format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.head_width() == 0 || !self.head_width().is_multiple_of(2) {
            return invalid(format!(
                "a head is {} wide, the rotary embedding needs an even width",
                self.head_width()
            ));
        }
        let positive = |value: f64| value > 0.0;
        if !positive(self.rms_norm_eps) || !positive(self.rotary_base()) {
            return invalid(format!(
                "rms_norm_eps {} and rope_theta {} must be positive",
                self.rms_norm_eps,
                self.rotary_base()
            ));
        }
        Ok(())
    }

    /// The architecture that `model_type` names, if it is one of ours.
    pub fn architecture(&self) -> Option<Architecture> {
        match self.model_type.as_str() {
            "qwen2" => Some(Architecture::Qwen2),
            "qwen3" => Some(Architecture::Qwen3),
            "llama" => Some(Architecture::Llama),
            _ => None,
        }
    }

    /// Width of one attention head: what the file says, else 128 for Qwen3 and `hidden_size / num_attention_heads` for the
    /// others, as in transformers.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or(match self.architecture() {
            Some(Architecture::Qwen3) => 128,
            _ => self.hidden_size / self.num_attention_heads.max(1),
        })
    }

    /// Name and shape of every parameter, in the order in which a forward pass meets them. A tied head is not listed.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, feed) = (self.hidden_size, self.intermediate_size);
        let query = self.num_attention_heads * self.head_width();
        let key = self.num_key_value_heads * self.head_width();
        let architecture = self.architecture().unwrap_or(Architecture::Llama);
        let (bias, norms, width) =
            (architecture.has_bias(), architecture.has_head_norms(), self.head_width());
        let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            for (name, shape, present) in [
                ("input_layernorm.weight", vec![hidden], true),
                ("self_attn.q_proj.weight", vec![query, hidden], true),
                ("self_attn.q_proj.bias", vec![query], bias),
                ("self_attn.k_proj.weight", vec![key, hidden], true),
                ("self_attn.k_proj.bias", vec![key], bias),
                ("self_attn.v_proj.weight", vec![key, hidden], true),
                ("self_attn.v_proj.bias", vec![key], bias),
                ("self_attn.q_norm.weight", vec![width], norms),
                ("self_attn.k_norm.weight", vec![width], norms),
                ("self_attn.o_proj.weight", vec![hidden, query], true),
                ("post_attention_layernorm.weight", vec![hidden], true),
                ("mlp.gate_proj.weight", vec![feed, hidden], true),
                ("mlp.up_proj.weight", vec![feed, hidden], true),
                ("mlp.down_proj.weight", vec![hidden, feed], true),
            ] {
                if present {
                    shapes.push((format!("model.layers.{layer}.{name}"), shape));
                }
            }
        }
        shapes.push(("model.norm.weight".into(), vec![hidden]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".into(), vec![self.vocab_size, hidden]));
        }
        shapes
    }

    /// Number of trainable numbers; a tied head counts once.
    pub fn parameters(&self) -> usize {
        self.parameter_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}
