//! Lists of named f32 tensors in a safetensors file, written and read one tensor at a time.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{Read, Seek, SeekFrom},
    ops::Deref,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensorError, View, tensor::Metadata};
use vul2safe_model::Parameter;

use crate::TrainError;

/// Longest header that is read, as in the safetensors crate.
const LONGEST_HEADER: u64 = 100_000_000;

/// A tensor to write; its bytes are made when its turn comes.
pub(crate) struct Entry<'a> {
    pub name: String,
    pub shape: &'a [usize],
    pub numbers: &'a [f32],
}

impl View for &Entry<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        4 * self.numbers.len()
    }
}

/// Writes the file beside its place, renames it, and flushes it to the disk.
pub(crate) fn write(
    path: &Path,
    entries: &[Entry<'_>],
    metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    let views = entries.iter().map(|entry| (entry.name.as_str(), entry));
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(source) => TrainError::io(path)(source),
        other => TrainError::Checkpoint { path: path.to_owned(), problem: other.to_string() },
    })?;
    fs_err::File::open(path).and_then(|file| file.sync_all()).map_err(TrainError::io(path))
}

/// Writes the numbers of parameters under their names.
pub(crate) fn write_parameters(path: &Path, parameters: &[Parameter]) -> Result<(), TrainError> {
    let numbers: Vec<_> = parameters.iter().map(Parameter::read).collect();
    let entries: Vec<Entry<'_>> = parameters
        .iter()
        .zip(&numbers)
        .map(|(parameter, numbers)| Entry {
            name: parameter.name().to_owned(),
            shape: parameter.shape(),
            numbers: numbers.deref(),
        })
        .collect();
    write(path, &entries, HashMap::new())
}

/// Reads what [`write_parameters`] wrote into the same parameters; all are checked before any is set.
pub(crate) fn read_parameters(path: &Path, parameters: &[Parameter]) -> Result<(), TrainError> {
    let mut file = TensorFile::open(path)?;
    if file.count() != parameters.len() {
        return Err(file.broken(format!("{} tensors where {} are wanted", file.count(), parameters.len())));
    }
    for parameter in parameters {
        file.check(parameter.name(), parameter.shape())?;
    }
    for parameter in parameters {
        parameter.set(&file.read(parameter.name(), parameter.shape())?)?;
    }
    Ok(())
}

/// An open file whose header is known to fit its length.
pub(crate) struct TensorFile {
    path: PathBuf,
    file: fs_err::File,
    metadata: Metadata,
    /// Where the tensors' bytes begin.
    start: u64,
}

impl TensorFile {
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        let broken = |problem: String| TrainError::Checkpoint { path: path.to_owned(), problem };
        let mut file = fs_err::File::open(path).map_err(TrainError::io(path))?;
        let length = file.metadata().map_err(TrainError::io(path))?.len();
        let mut header = [0; 8];
        if length < 8 {
            return Err(broken(format!("{length} bytes are no safetensors file")));
        }
        file.read_exact(&mut header).map_err(TrainError::io(path))?;
        let header = u64::from_le_bytes(header);
        if header > LONGEST_HEADER.min(length - 8) {
            return Err(broken(format!("a header of {header} bytes in a file of {length}")));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(TrainError::io(path))?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        let (start, wanted) = (8 + header, metadata.data_len() as u64);
        if length != start + wanted {
            return Err(broken(format!("{length} bytes where {} are wanted", start + wanted)));
        }
        Ok(Self { path: path.to_owned(), file, metadata, start })
    }

    pub(crate) fn broken(&self, problem: String) -> TrainError {
        TrainError::Checkpoint { path: self.path.clone(), problem }
    }

    pub(crate) fn count(&self) -> usize {
        self.metadata.offset_keys().len()
    }

    /// A value of the file's own metadata.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Checks that the tensor is there, is f32 and has this shape; gives where its bytes begin.
    pub(crate) fn check(&self, name: &str, shape: &[usize]) -> Result<u64, TrainError> {
        let info = self.metadata.info(name).ok_or_else(|| self.broken(format!("it lacks `{name}`")))?;
        if info.dtype != Dtype::F32 || info.shape != shape {
            return Err(
                self.broken(format!("`{name}` is {:?} {:?}, not F32 {shape:?}", info.dtype, info.shape))
            );
        }
        Ok(self.start + info.data_offsets.0 as u64)
    }

    /// The numbers of a tensor of this shape.
    pub(crate) fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, TrainError> {
        let start = self.check(name, shape)?;
        let mut bytes = vec![0; 4 * shape.iter().product::<usize>()];
        self.file.seek(SeekFrom::Start(start)).map_err(TrainError::io(&self.path))?;
        self.file.read_exact(&mut bytes).map_err(TrainError::io(&self.path))?;
        // `chunks_exact(4)` yields slices of four bytes only, so the conversion never takes the default.
        Ok(bytes
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap_or_default()))
            .collect())
    }
}
