//! Writing a model folder, each file whole or not at all.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use half::bf16;
use safetensors::{Dtype, View};

use crate::config::Config;
use crate::error::ModelError;
use crate::parameter::{Numbers, Precision, Weight};

/// A tensor to be written. Its numbers are asked for when its turn comes.
pub(crate) struct Written<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) read: Box<dyn Fn() -> Result<Numbers<'a>, ModelError> + 'a>,
}

impl<'a> Written<'a> {
    /// A weight in this process's memory, under another name.
    pub(crate) fn weight(name: String, weight: &'a Weight) -> Written<'a> {
        Written { name, shape: weight.shape().to_vec(), read: Box::new(|| Ok(weight.read())) }
    }
}

/// A tensor as safetensors writes it.
struct Stored<'s, 'a> {
    tensor: &'s Written<'a>,
    precision: Precision,
    /// Why a tensor could not be read, which safetensors has no way to say.
    failure: &'s RefCell<Option<ModelError>>,
}

impl View for Stored<'_, '_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::Float32 => Dtype::F32,
            Precision::Bfloat16 => Dtype::BF16,
        }
    }
    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = match (self.tensor.read)() {
            Ok(numbers) => numbers,
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                // The file is thrown away; bytes of the right length keep the writer going until then.
                return Cow::Owned(vec![0; self.data_len()]);
            }
        };
        let numbers = numbers.iter();
        Cow::Owned(match self.precision {
            Precision::Float32 => numbers.flat_map(|number| number.to_le_bytes()).collect(),
            Precision::Bfloat16 => numbers.flat_map(|number| bf16::from_f32(*number).to_le_bytes()).collect(),
        })
    }
    fn data_len(&self) -> usize {
        self.tensor.shape.iter().product::<usize>() * self.precision.bytes()
    }
}

/// Writes a safetensors file.
pub(crate) fn write_weights(
    folder: &Path,
    name: &str,
    tensors: &[Written<'_>],
    precision: Precision,
    metadata: HashMap<String, String>,
) -> Result<(), ModelError> {
    replace(folder, name, |temporary| {
        let failure = RefCell::new(None);
        let stored = |tensor| Stored { tensor, precision, failure: &failure };
        let views = tensors.iter().map(|tensor| (tensor.name.as_str(), stored(tensor)));
        let written = safetensors::serialize_to_file(views, Some(metadata), temporary);
        if let Some(error) = failure.take() {
            return Err(error);
        }
        written.map_err(|error| match error {
            safetensors::SafeTensorError::IoError(source) => ModelError::io(temporary, source),
            other => ModelError::Safetensors { file: temporary.to_path_buf(), message: other.to_string() },
        })
    })
}

/// Writes the folder; see [`crate::Model::save`].
pub(crate) fn save(
    folder: &Path,
    config: &Config,
    weights: &[Written<'_>],
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
