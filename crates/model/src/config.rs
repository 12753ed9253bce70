//! `config.json` of a Qwen2 model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// The shape of a Qwen2 decoder, with the field names of `config.json`.
///
/// Keys that do not change what is computed are ignored; keys that would change it and are not supported are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The architecture's name; only `qwen2` is computed.
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
    /// Older name of a rotary scaling; anything but absent or `default` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeParameters>,
    /// Whether the head shares the embedding's matrix.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether some layers look only at a window; refused when true.
    #[serde(default)]
    pub use_sliding_window: bool,
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

/// `rope_parameters` (or `rope_scaling`) of `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// Base of the rotary embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// The kind of scaling; only `default`.
    #[serde(default, alias = "type", skip_serializing_if = "Option::is_none")]
    pub rope_type: Option<String>,
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
        if self.model_type != "qwen2" {
            return unsupported("model_type", &self.model_type, "qwen2 (Qwen2, Qwen2.5 and Qwen2.5-Coder)");
        }
        if self.hidden_act != "silu" {
            return unsupported("hidden_act", &self.hidden_act, "silu");
        }
        if self.use_sliding_window {
            return unsupported(
                "use_sliding_window",
                "true",
                "use_sliding_window = false (full attention in every layer)",
            );
        }
        for (key, parameters) in
            [("rope_parameters", &self.rope_parameters), ("rope_scaling", &self.rope_scaling)]
        {
            if let Some(kind) = parameters.as_ref().and_then(|parameters| parameters.rope_type.as_deref())
                && kind != "default"
            {
                return unsupported(
                    &format!("{key}.rope_type"),
                    kind,
                    "default (no scaling of the rotary embedding)",
                );
            }
        }
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
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
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

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Base of the rotary embedding, from whichever place the file keeps it in (10,000 where it does not say).
    pub fn rotary_base(&self) -> f64 {
        let nested = self.rope_parameters.as_ref().and_then(|parameters| parameters.rope_theta);
        self.rope_theta.or(nested).unwrap_or(10_000.0)
    }

    /// Name and shape of every parameter, in the order in which a forward pass meets them. A tied head is not listed.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, feed) = (self.hidden_size, self.intermediate_size);
        let query = self.num_attention_heads * self.head_width();
        let key = self.num_key_value_heads * self.head_width();
        let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            for (name, shape) in [
                ("input_layernorm.weight", vec![hidden]),
                ("self_attn.q_proj.weight", vec![query, hidden]),
                ("self_attn.q_proj.bias", vec![query]),
                ("self_attn.k_proj.weight", vec![key, hidden]),
                ("self_attn.k_proj.bias", vec![key]),
                ("self_attn.v_proj.weight", vec![key, hidden]),
                ("self_attn.v_proj.bias", vec![key]),
                ("self_attn.o_proj.weight", vec![hidden, query]),
                ("post_attention_layernorm.weight", vec![hidden]),
                ("mlp.gate_proj.weight", vec![feed, hidden]),
                ("mlp.up_proj.weight", vec![feed, hidden]),
                ("mlp.down_proj.weight", vec![hidden, feed]),
            ] {
                shapes.push((format!("model.layers.{layer}.{name}"), shape));
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
