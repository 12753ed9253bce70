//! Writing a model folder, each file whole or not at all.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use half::bf16;
use safetensors::{Dtype, View};

use crate::config::Config;
use crate::error::ModelError;
use crate::parameter::{Precision, Weight};

/// A weight as safetensors writes it: its bytes are made one tensor at a time.
struct Stored<'a> {
    weight: &'a Weight,
    precision: Precision,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::Float32 => Dtype::F32,
            Precision::Bfloat16 => Dtype::BF16,
        }
    }
    fn shape(&self) -> &[usize] {
        self.weight.shape()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = self.weight.read();
        let numbers = numbers.iter();
        Cow::Owned(match self.precision {
            Precision::Float32 => numbers.flat_map(|number| number.to_le_bytes()).collect(),
            Precision::Bfloat16 => numbers.flat_map(|number| bf16::from_f32(*number).to_le_bytes()).collect(),
        })
    }
    fn data_len(&self) -> usize {
        self.weight.count() * self.precision.bytes()
    }
}

/// Writes a safetensors file.
pub(crate) fn write_weights(
    folder: &Path,
    name: &str,
    weights: &[(String, Weight)],
    precision: Precision,
    metadata: HashMap<String, String>,
) -> Result<(), ModelError> {
    replace(folder, name, |temporary| {
        let views = weights.iter().map(|(name, weight)| (name.as_str(), Stored { weight, precision }));
        safetensors::serialize_to_file(views, Some(metadata), temporary).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(source) => ModelError::io(temporary, source),
            other => ModelError::Safetensors { file: temporary.to_path_buf(), message: other.to_string() },
        })
    })
}

/// Writes the folder; see [`crate::Model::save`].
pub(crate) fn save(
    folder: &Path,
    config: &Config,
    weights: &[(String, Weight)],
    precision: Precision,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|source| ModelError::io(folder, source))?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    write_weights(folder, "model.safetensors", weights, precision, metadata)?;
    let mut generation = serde_json::Map::new();
    for (key, value) in [
        ("bos_token_id", &config.bos_token_id),
        ("eos_token_id", &config.eos_token_id),
        ("pad_token_id", &config.pad_token_id),
    ] {
        if let Some(value) = value {
            generation.insert(key.into(), value.clone());
        }
    }
    write_json(folder, "generation_config.json", &serde_json::Value::Object(generation))?;
    write_json(folder, "config.json", &config_json(config, precision)?)
}

/// `config.json` as transformers of every age reads it: what the rotary embedding needs stands both where older files keep it
/// and where newer ones do.
fn config_json(config: &Config, precision: Precision) -> Result<serde_json::Value, ModelError> {
    let mut config = config.clone();
    let rope = config.unified_rope();
    config.rope_theta = rope.rope_theta;
    config.rope_scaling =
        rope.rope_type.as_deref().is_some_and(|kind| kind != "default").then(|| rope.clone());
    config.rope_parameters = Some(rope);
    config.head_dim = Some(config.head_width());
    let architecture = config.architecture();
    let mut value = serde_json::to_value(&config).map_err(|error| ModelError::InvalidConfig {
        what: format!("it cannot be written as JSON: {error}"),
    })?;
    if let (Some(object), Some(architecture)) = (value.as_object_mut(), architecture) {
        object.insert("architectures".into(), serde_json::json!([architecture.class_name()]));
        let name = match precision {
            Precision::Float32 => "float32",
            Precision::Bfloat16 => "bfloat16",
        };
        object.insert("torch_dtype".into(), name.into());
    }
    Ok(value)
}

/// Writes a JSON file.
pub(crate) fn write_json(folder: &Path, name: &str, value: &serde_json::Value) -> Result<(), ModelError> {
    let text = format!("{value:#}\n");
    replace(folder, name, |temporary| {
        let mut file =
            std::fs::File::create(temporary).map_err(|source| ModelError::io(temporary, source))?;
        file.write_all(text.as_bytes()).map_err(|source| ModelError::io(temporary, source))
    })
}

/// Writes a file beside its place, flushes it to the disk and renames it, so that the place never holds half a file.
fn replace(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&Path) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let temporary = folder.join(format!(".{name}.{}.part", std::process::id()));
    let target = folder.join(name);
    let written = write(&temporary).and_then(|()| {
        std::fs::File::open(&temporary)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&temporary, &target))
            .map_err(|source| ModelError::io(&target, source))
    });
    if written.is_err() {
        // The error that matters is the first one; a part that stays behind is hidden and harmless.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
