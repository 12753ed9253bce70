//! The Hugging Face model folder: reading and writing weights.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::Var;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};

use crate::config::Config;
use crate::error::ModelError;
use crate::ops::{tensor, with_numbers};

/// Reads every parameter of `config` from the folder.
pub(crate) fn load(folder: &Path, config: &Config) -> Result<Vec<(String, Var)>, ModelError> {
    let shapes = config.parameter_shapes();
    let places: HashMap<&str, usize> =
        shapes.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let mut found: Vec<Option<Var>> = (0..shapes.len()).map(|_| None).collect();
    let files = weight_files(folder)?;
    for file in &files {
        let opened = std::fs::File::open(file).map_err(|source| ModelError::io(file, source))?;
        let length = opened.metadata().map_err(|source| ModelError::io(file, source))?.len();
        let broken = |message: String| ModelError::Safetensors { file: file.clone(), message };
        if length == 0 {
            return Err(broken("the file is empty".into()));
        }
        // SAFETY: the map is read only and dropped at the end of this loop's body; a file that another process changes
        // meanwhile would give wrong numbers, which no reader can exclude.
        let bytes = unsafe { memmap2::Mmap::map(&opened) }.map_err(|source| ModelError::io(file, source))?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|error| broken(format!("{error} ({length} bytes)")))?;
        for (name, view) in tensors.iter() {
            let Some(&at) = places.get(name) else {
                if is_redundant(name, config) {
                    continue;
                }
                return Err(ModelError::UnexpectedTensor { file: file.clone(), tensor: name.to_string() });
            };
            found[at] = Some(Var::from_tensor(&tensor(
                read(file, name, &view, &shapes[at].1)?,
                shapes[at].1.clone(),
            )?)?);
        }
    }
    let mut parameters = Vec::with_capacity(shapes.len());
    for ((name, shape), parameter) in shapes.into_iter().zip(found) {
        match parameter {
            Some(parameter) => parameters.push((name, parameter)),
            None => {
                let file = if let [file] = &files[..] { file.clone() } else { folder.to_path_buf() };
                return Err(ModelError::MissingTensor { file, tensor: name, expected: shape });
            }
        }
    }
    Ok(parameters)
}

/// Tensors that some writers add although they follow from the others.
fn is_redundant(name: &str, config: &Config) -> bool {
    (name == "lm_head.weight" && config.tie_word_embeddings) || name.ends_with("rotary_emb.inv_freq")
}

/// `model.safetensors`, or the shards that its index names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if single.exists() || !index.exists() {
        return Ok(vec![single]);
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read(&index).map_err(|source| ModelError::io(&index, source))?;
    let bad = |message: String| ModelError::Index { file: index.clone(), message };
    let parsed: Index = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(bad("it names no file".into()));
    }
    if let Some(name) =
        names.iter().find(|name| Path::new(name).components().count() != 1 || name.starts_with('.'))
    {
        return Err(bad(format!("{name:?} is no file name")));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn read(file: &Path, name: &str, view: &TensorView<'_>, expected: &[usize]) -> Result<Vec<f32>, ModelError> {
    if view.shape() != expected {
        return Err(ModelError::Shape {
            file: file.to_path_buf(),
            tensor: name.to_string(),
            expected: expected.to_vec(),
            found: view.shape().to_vec(),
        });
    }
    let halves = |widen: fn(u16) -> f32| {
        view.data().chunks_exact(2).map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect()
    };
    match view.dtype() {
        Dtype::F32 => {
            Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        Dtype::BF16 => Ok(halves(|bits| half::bf16::from_bits(bits).to_f32())),
        Dtype::F16 => Ok(halves(|bits| half::f16::from_bits(bits).to_f32())),
        other => Err(ModelError::DataType {
            file: file.to_path_buf(),
            tensor: name.to_string(),
            found: format!("{other:?}"),
        }),
    }
}

/// A parameter as safetensors writes it: its bytes are made one tensor at a time.
struct Stored<'a> {
    parameter: &'a Var,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        self.parameter.dims()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = with_numbers(self.parameter, |numbers| {
            Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
        });
        // Parameters are contiguous f32 tensors on the CPU from their creation, so that reading them cannot fail; were it
        // to, an empty answer makes safetensors refuse the file rather than write a wrong one.
        Cow::Owned(bytes.unwrap_or_default())
    }
    fn data_len(&self) -> usize {
        self.parameter.elem_count() * 4
    }
}

/// Writes the folder; see [`crate::Model::save`].
pub(crate) fn save(folder: &Path, config: &Config, parameters: &[(String, Var)]) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|source| ModelError::io(folder, source))?;
    replace(folder, "model.safetensors", |temporary| {
        let views = parameters.iter().map(|(name, parameter)| (name.as_str(), Stored { parameter }));
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize_to_file(views, Some(metadata), temporary).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(source) => ModelError::io(temporary, source),
            other => ModelError::Safetensors { file: temporary.to_path_buf(), message: other.to_string() },
        })
    })?;
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
    write_json(folder, "config.json", &config_json(config)?)
}

/// `config.json` as transformers of every age reads it: the rotary base both at the top and in `rope_parameters`.
fn config_json(config: &Config) -> Result<serde_json::Value, ModelError> {
    let mut config = config.clone();
    let base = config.rotary_base();
    config.rope_theta = Some(base);
    config.rope_parameters =
        Some(crate::config::RopeParameters { rope_theta: Some(base), rope_type: Some("default".into()) });
    config.rope_scaling = None;
    let mut value = serde_json::to_value(&config).map_err(|error| ModelError::InvalidConfig {
        what: format!("it cannot be written as JSON: {error}"),
    })?;
    if let Some(object) = value.as_object_mut() {
        object.insert("architectures".into(), serde_json::json!(["Qwen2ForCausalLM"]));
        object.insert("torch_dtype".into(), "float32".into());
    }
    Ok(value)
}

fn write_json(folder: &Path, name: &str, value: &serde_json::Value) -> Result<(), ModelError> {
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
