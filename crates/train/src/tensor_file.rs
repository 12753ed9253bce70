//! Lists of named f32 tensors in a safetensors file, written and read one tensor at a time.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashMap,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensorError, View, tensor::Metadata};
use vul2safe_model::Trainable;

use crate::TrainError;

/// Longest header that is read, as in the safetensors crate.
const LONGEST_HEADER: u64 = 100_000_000;

/// Gives the numbers of a tensor: those that are there, or a copy from a device.
pub(crate) type Numbers<'a> = Box<dyn Fn() -> Result<Cow<'a, [f32]>, TrainError> + 'a>;

/// A tensor to write; its numbers are asked for and its bytes made when its turn comes.
pub(crate) struct Entry<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub read: Numbers<'a>,
}

/// A tensor as safetensors writes it.
struct Stored<'s, 'a> {
    entry: &'s Entry<'a>,
    /// Why a tensor could not be read, which safetensors has no way to say.
    failure: &'s RefCell<Option<TrainError>>,
}

impl View for Stored<'_, '_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match (self.entry.read)() {
            Ok(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                // The file is thrown away; bytes of the right length keep the writer going until then.
                vec![0; self.data_len()]
            }
        })
    }
    fn data_len(&self) -> usize {
        4 * self.entry.shape.iter().product::<usize>()
    }
}

/// Writes the file and flushes it to the disk.
pub(crate) fn write(
    path: &Path,
    entries: &[Entry<'_>],
    metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    let failure = RefCell::new(None);
    let stored = |entry| Stored { entry, failure: &failure };
    let views = entries.iter().map(|entry| (entry.name.as_str(), stored(entry)));
    let written = safetensors::serialize_to_file(views, Some(metadata), path);
    if let Some(error) = failure.take() {
        return Err(error);
    }
    written.map_err(|error| match error {
        SafeTensorError::IoError(source) => TrainError::io(path)(source),
        other => TrainError::Checkpoint { path: path.to_owned(), problem: other.to_string() },
    })?;
    fs_err::File::open(path).and_then(|file| file.sync_all()).map_err(TrainError::io(path))
}

/// Writes the numbers of everything that is trained under their names.
pub(crate) fn write_parameters(path: &Path, trainable: &Trainable) -> Result<(), TrainError> {
    let entry = |(index, (name, shape)): (usize, (String, Vec<usize>))| Entry {
        name,
        shape,
        read: Box::new(move || Ok(Cow::Owned(trainable.read(index)?.to_vec()))),
    };
    let entries: Vec<Entry<'_>> = trainable.shapes().into_iter().enumerate().map(entry).collect();
    write(path, &entries, HashMap::new())
}

/// Reads what [`write_parameters`] wrote into the same parameters; all are checked before any is set.
pub(crate) fn read_parameters(path: &Path, trainable: &Trainable) -> Result<(), TrainError> {
    let mut file = TensorFile::open(path)?;
    let shapes = trainable.shapes();
    if file.count() != shapes.len() {
        return Err(file.broken(format!("{} tensors where {} are wanted", file.count(), shapes.len())));
    }
    for (name, shape) in &shapes {
        file.check(name, shape)?;
    }
    for (index, (name, shape)) in shapes.iter().enumerate() {
        trainable.write(index, &file.read(name, shape)?)?;
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
