//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{Adapter, LoraConfig, Target};
use crate::checkpoint::{self, WeightFile, Written};
use crate::config::Config;
use crate::error::ModelError;
use crate::parameter::{Parameter, Precision};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of a causal language model's tensors.
const PREFIX: &str = "base_model.model.";
/// The key in the weights file's metadata under which we note the base.
const BASE: &str = "vul2safe_base";

impl Adapter {
    /// Whether the folder holds an adapter and not a model.
    pub fn is_folder(folder: &Path) -> bool {
        folder.join(CONFIG).exists() && !folder.join("config.json").exists()
    }

    /// Writes the folder so that PEFT loads it. `base` is the name or path of the base model, for PEFT's own use; each file is
    /// written beside its place and renamed, the configuration last.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path, base: Option<&str>) -> Result<(), ModelError> {
        fs_err::create_dir_all(folder).map_err(|source| ModelError::io(folder, source))?;
        let mut metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        if let Some(fingerprint) = self.base {
            metadata.insert(BASE.into(), format!("{fingerprint:016x}"));
        }
        let tensors: Vec<Written<'_>> = self
            .parameters
            .iter()
            .map(|parameter| Written {
                name: format!("{PREFIX}{}", parameter.name()),
                shape: parameter.shape().to_vec(),
                read: Box::new(|| Ok(parameter.read())),
            })
            .collect();
        checkpoint::write_weights(folder, WEIGHTS, &tensors, Precision::Float32, metadata)?;
        let names: Vec<&str> = self.config.target_modules.iter().map(|target| target.name()).collect();
        let value = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": self.config.rank,
            "lora_alpha": if self.config.alpha.fract() == 0.0 { json!(self.config.alpha as i64) } else { json!(self.config.alpha) },
            "lora_dropout": self.config.dropout,
            "target_modules": names,
            "use_rslora": self.config.rank_stabilized,
            "use_dora": false,
            "bias": "none",
            "fan_in_fan_out": false,
            "modules_to_save": null,
            "inference_mode": true,
            "init_lora_weights": true,
        });
        checkpoint::write_json(folder, CONFIG, &value)
    }

    /// Reads an adapter for a model of this shape.
    ///
    /// # Errors
    /// A missing or broken file; an option of PEFT that this engine does not compute (by name); a tensor that is missing, has
    /// no place or has another shape than the model calls for ([`ModelError::OtherBase`]); numbers that are not finite.
    pub fn load(folder: &Path, model: &Config) -> Result<Adapter, ModelError> {
        let path = folder.join(CONFIG);
        let text = std::fs::read(&path).map_err(|source| ModelError::io(&path, source))?;
        let syntax = |message: String| ModelError::ConfigSyntax { path: path.clone(), message };
        let value: Value = serde_json::from_slice(&text).map_err(|error| syntax(error.to_string()))?;
        let config = read_config(&value, &syntax)?;
        let file = WeightFile::open(&folder.join(WEIGHTS))?;
        let tensors = file.tensors()?;
        let shapes = config.parameter_shapes(model);
        let mut parameters = Vec::with_capacity(shapes.len());
        for (name, shape) in &shapes {
            let stored = format!("{PREFIX}{name}");
            let view = tensors.tensor(&stored).map_err(|_| ModelError::OtherBase {
                what: format!("{} lacks {stored}, which this model calls for", file.path().display()),
            })?;
            if view.shape() != shape {
                return Err(ModelError::OtherBase {
                    what: format!(
                        "{}: {stored} has shape {:?}, this model takes {shape:?}",
                        file.path().display(),
                        view.shape()
                    ),
                });
            }
            let values = file.read(&stored, &view, shape)?;
            parameters.push(Parameter::new(name.clone(), values, shape.clone())?);
        }
        if let Some((name, _)) = tensors.iter().find(|(name, _)| {
            !name.strip_prefix(PREFIX).is_some_and(|name| shapes.iter().any(|(known, _)| known == name))
        }) {
            return Err(ModelError::OtherBase {
                what: format!("{} holds {name}, for which this model has no place", file.path().display()),
            });
        }
        let base = file.metadata(BASE)?.and_then(|text| u64::from_str_radix(&text, 16).ok());
        Ok(Adapter { config, parameters, base })
    }

    /// Notes the base, or refuses one other than that of the note.
    pub(crate) fn bind(&mut self, fingerprint: u64) -> Result<(), ModelError> {
        match self.base {
            Some(base) if base != fingerprint => Err(ModelError::OtherBase {
                what: format!(
                    "it was trained on a base with fingerprint {base:016x}, this model's is {fingerprint:016x}"
                ),
            }),
            _ => {
                self.base = Some(fingerprint);
                Ok(())
            }
        }
    }
}

fn read_config(value: &Value, syntax: &dyn Fn(String) -> ModelError) -> Result<LoraConfig, ModelError> {
    let unsupported = |key: &str, supported: &str| {
        Err(ModelError::Unsupported {
            key: key.into(),
            found: value[key].to_string(),
            supported: supported.into(),
        })
    };
    if value["peft_type"] != "LORA" {
        return unsupported("peft_type", "LORA");
    }
    let plain = |key: &str| match &value[key] {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    for key in [
        "use_dora",
        "fan_in_fan_out",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layer_replication",
        "lora_bias",
        "target_parameters",
        "trainable_token_indices",
        "exclude_modules",
    ] {
        if !plain(key) {
            return unsupported(key, &format!("plain LoRA without {key}"));
        }
    }
    if !(plain("bias") || value["bias"] == "none") {
        return unsupported("bias", "\"none\"");
    }
    let number = |key: &str| {
        value[key].as_f64().ok_or_else(|| syntax(format!("`{key}` is {}, expected a number", value[key])))
    };
    let target_modules = match &value["target_modules"] {
        Value::String(all) if all == "all-linear" => Target::ALL.to_vec(),
        Value::Array(names) => {
            let mut targets = Vec::new();
            for name in names {
                match serde_json::from_value::<Target>(name.clone()) {
                    Ok(target) => targets.push(target),
                    Err(_) => {
                        return unsupported(
                            "target_modules",
                            "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, by name",
                        );
                    }
                }
            }
            targets.sort_unstable();
            targets
        }
        _ => return unsupported("target_modules", "a list of names, or \"all-linear\""),
    };
    let config = LoraConfig {
        rank: number("r")? as usize,
        alpha: number("lora_alpha")?,
        dropout: value["lora_dropout"].as_f64().unwrap_or(0.0) as f32,
        target_modules,
        rank_stabilized: value["use_rslora"].as_bool().unwrap_or(false),
    };
    config.check()?;
    Ok(config)
}
