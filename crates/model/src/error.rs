//! What can go wrong in this crate, with the data in the fields and the advice apart.

use std::path::PathBuf;

use crate::device::DeviceError;

/// Why a model could not be loaded, saved, trained on or sampled from.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// `config.json` is no JSON, or lacks a field, or holds a value of the wrong type.
    #[error("{}: not a usable model configuration: {message}", path.display())]
    ConfigSyntax {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong, with the place.
        message: String,
    },
    /// The configuration asks for something that this engine does not compute.
    #[error("{key} = {found} is not supported")]
    Unsupported {
        /// The key in `config.json`.
        key: String,
        /// Its value.
        found: String,
        /// What would be supported.
        supported: String,
    },
    /// The configuration contradicts itself.
    #[error("the model configuration is inconsistent: {what}")]
    InvalidConfig {
        /// The contradiction.
        what: String,
    },
    /// The weights file is not readable as safetensors, most often because it was cut short.
    #[error("{}: not a complete safetensors file: {message}", file.display())]
    Safetensors {
        /// The weights file.
        file: PathBuf,
        /// What the reader said.
        message: String,
    },
    /// The index of a sharded checkpoint is unusable.
    #[error("{}: not a usable index of weight files: {message}", file.display())]
    Index {
        /// The index file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A tensor that the configuration calls for is absent.
    #[error("{}: tensor {tensor} (shape {expected:?}) is missing", file.display())]
    MissingTensor {
        /// The weights file or folder that was searched.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape that the configuration calls for.
        expected: Vec<usize>,
    },
    /// A tensor that the configuration has no place for.
    #[error("{}: tensor {tensor} has no place in this model", file.display())]
    UnexpectedTensor {
        /// The weights file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor of another shape than the configuration calls for.
    #[error("{}: tensor {tensor} has shape {found:?}, expected {expected:?}", file.display())]
    Shape {
        /// The weights file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shape that the configuration calls for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor of a number type that is not read.
    #[error("{}: tensor {tensor} is stored as {found}, expected F32, BF16 or F16", file.display())]
    DataType {
        /// The weights file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The type in the file.
        found: String,
    },
    /// A weight that is NaN or infinite.
    #[error("{}: tensor {tensor} holds {value} at place {place}", file.display())]
    NotFinite {
        /// The weights file.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Where in the tensor, counted row by row.
        place: usize,
        /// The number.
        value: f32,
    },
    /// An adapter that belongs to another base model.
    #[error("the adapter does not fit this base model: {what}")]
    OtherBase {
        /// What does not fit.
        what: String,
    },
    /// Something that needs trainable weights was asked of a model whose weights are kept in fewer bits.
    #[error("{what} needs float32 weights, but this model's are kept as bfloat16")]
    Frozen {
        /// What was asked.
        what: &'static str,
    },
    /// A batch, row or prompt that the model cannot take.
    #[error("{what}")]
    Input {
        /// What is wrong with it.
        what: String,
    },
    /// A request's logits hold a number that is not finite.
    #[error("request {request}: the model's logits are not finite numbers")]
    NotFiniteLogits {
        /// The request's number: the index of its prompt.
        request: usize,
    },
    /// A model that lies on a device was asked for what only the processor's engine has.
    #[error("{what} is only there for a model on the processor")]
    OnDevice {
        /// What was asked.
        what: &'static str,
    },
    /// A device could not be used, or refused something.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor operation failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl ModelError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ModelError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => format!(
                "a model folder holds config.json, model.safetensors (or its index and shards) and tokenizer.json; check {}",
                path.display()
            ),
            ModelError::Io { .. } | ModelError::Tensor(_) => return None,
            ModelError::ConfigSyntax { .. } => {
                "use the config.json that came with the model, in the Hugging Face layout".into()
            }
            ModelError::Unsupported { supported, .. } => format!("supported: {supported}"),
            ModelError::InvalidConfig { .. } => "correct config.json or the model section of the recipe".into(),
            ModelError::Safetensors { .. } => {
                "the file was probably cut short: compare its size with the original and copy or download it again".into()
            }
            ModelError::Index { .. } => "copy model.safetensors.index.json and every file it names again".into(),
            ModelError::MissingTensor { .. } => {
                "config.json and the weights belong to different models, or a shard is missing".into()
            }
            ModelError::UnexpectedTensor { .. } => {
                "config.json and the weights belong to different models; merge adapters before loading".into()
            }
            ModelError::Shape { .. } => "config.json and the weights belong to different models".into(),
            ModelError::DataType { .. } => "convert the checkpoint to float32 or bfloat16; quantised weights are not read".into(),
            ModelError::NotFinite { .. } => {
                "the model was saved after its training had failed: use an earlier checkpoint".into()
            }
            ModelError::NotFiniteLogits { .. } => {
                "the weights hold NaN or infinite numbers, most often after training diverged: go back to an earlier checkpoint".into()
            }
            ModelError::OtherBase { .. } => {
                "load the base model that the adapter was trained on (adapter_config.json may name it)".into()
            }
            ModelError::Frozen { .. } => "load the model in float32, or train an adapter on it".into(),
            ModelError::Device(error) => return error.hint(),
            ModelError::OnDevice { .. } | ModelError::Input { .. } => return None,
        })
    }

    pub(crate) fn input(what: impl Into<String>) -> Self {
        ModelError::Input { what: what.into() }
    }

    pub(crate) fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        ModelError::Io { path: path.to_path_buf(), source }
    }
}
