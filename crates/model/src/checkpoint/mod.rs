//! The Hugging Face model folder: reading and writing weights.

mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

pub(crate) use write::{Written, save, write_json, write_weights};

use crate::config::Config;
use crate::error::ModelError;
use crate::parameter::{Precision, Weight};

/// A memory-mapped safetensors file.
pub(crate) struct WeightFile {
    path: PathBuf,
    bytes: memmap2::Mmap,
}

impl WeightFile {
    /// Maps the file.
    pub(crate) fn open(path: &Path) -> Result<WeightFile, ModelError> {
        let opened = std::fs::File::open(path).map_err(|source| ModelError::io(path, source))?;
        let length = opened.metadata().map_err(|source| ModelError::io(path, source))?.len();
        if length == 0 {
            let message = "the file is empty".into();
            return Err(ModelError::Safetensors { file: path.to_path_buf(), message });
        }
        // SAFETY: the map is read only and lives as long as the numbers are copied out of it; a file that another process
        // changes meanwhile would give wrong numbers, which no reader can exclude.
        let bytes = unsafe { memmap2::Mmap::map(&opened) }.map_err(|source| ModelError::io(path, source))?;
        Ok(WeightFile { path: path.to_path_buf(), bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn broken(&self, error: &safetensors::SafeTensorError) -> ModelError {
        ModelError::Safetensors {
            file: self.path.clone(),
            message: format!("{error} ({} bytes)", self.bytes.len()),
        }
    }

    /// Its tensors.
    pub(crate) fn tensors(&self) -> Result<SafeTensors<'_>, ModelError> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| self.broken(&error))
    }

    /// An entry of its metadata.
    pub(crate) fn metadata(&self, key: &str) -> Result<Option<String>, ModelError> {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).map_err(|error| self.broken(&error))?;
        Ok(metadata.metadata().as_ref().and_then(|entries| entries.get(key).cloned()))
    }

    /// The numbers of a tensor, widened to f32.
    pub(crate) fn read(
        &self,
        name: &str,
        view: &TensorView<'_>,
        expected: &[usize],
    ) -> Result<Vec<f32>, ModelError> {
        let file = || self.path.clone();
        if view.shape() != expected {
            return Err(ModelError::Shape {
                file: file(),
                tensor: name.to_string(),
                expected: expected.to_vec(),
                found: view.shape().to_vec(),
            });
        }
        let halves = || view.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        let values = match view.dtype() {
            Dtype::F32 => {
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::BF16 => halves().map(half::bf16::from_bits).collect::<Vec<_>>().to_f32_vec(),
            Dtype::F16 => halves().map(half::f16::from_bits).collect::<Vec<_>>().to_f32_vec(),
            other => {
                return Err(ModelError::DataType {
                    file: file(),
                    tensor: name.to_string(),
                    found: format!("{other:?}"),
                });
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(place) => Err(ModelError::NotFinite {
                file: file(),
                tensor: name.to_string(),
                place,
                value: values[place],
            }),
        }
    }
}

/// The weight files of a model folder, with a place for every tensor that the configuration calls for.
pub(crate) struct ModelFiles {
    files: Vec<WeightFile>,
    /// Which file holds the tensor of this name.
    places: HashMap<String, usize>,
}

impl ModelFiles {
    /// Maps the files of the folder.
    pub(crate) fn open(folder: &Path, config: &Config) -> Result<ModelFiles, ModelError> {
        let shapes = config.parameter_shapes();
        let known: BTreeSet<&str> = shapes.iter().map(|(name, _)| name.as_str()).collect();
        let (mut files, mut places) = (Vec::new(), HashMap::new());
        for path in weight_files(folder)? {
            let file = WeightFile::open(&path)?;
            for (name, _) in file.tensors()?.iter() {
                if known.contains(name) {
                    places.insert(name.to_string(), files.len());
                } else if !is_redundant(name, config) {
                    return Err(ModelError::UnexpectedTensor { file: path, tensor: name.to_string() });
                }
            }
            files.push(file);
        }
        if let Some((tensor, expected)) = shapes.into_iter().find(|(name, _)| !places.contains_key(name)) {
            let file = if let [file] = &files[..] { file.path().to_path_buf() } else { folder.to_path_buf() };
            return Err(ModelError::MissingTensor { file, tensor, expected });
        }
        Ok(ModelFiles { files, places })
    }

    /// The numbers of a tensor that the configuration calls for, widened to f32.
    pub(crate) fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let file = self.places.get(name).and_then(|&place| self.files.get(place));
        let file = file.ok_or_else(|| ModelError::input(format!("no file holds {name}")))?;
        let tensors = file.tensors()?;
        let view = tensors.tensor(name).map_err(|error| file.broken(&error))?;
        file.read(name, &view, shape)
    }
}

/// Reads every parameter of `config` from the folder.
pub(crate) fn load(folder: &Path, config: &Config, precision: Precision) -> Result<Vec<Weight>, ModelError> {
    let files = ModelFiles::open(folder, config)?;
    let shapes = config.parameter_shapes();
    shapes.iter().map(|(name, shape)| Weight::new(name, files.read(name, shape)?, shape, precision)).collect()
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
