//! What became of each record: `data.json`.

use std::io::ErrorKind;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{RunError, RunFolder, write_atomic};

/// The file's name in the run folder.
const DATA: &str = "data.json";

/// Counts of records, by stage and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSummary {
    /// In the order in which the data flows.
    pub sections: Vec<DataSection>,
}

/// Counts that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSection {
    /// What is counted, such as `Vul2Safe: rejected, by reason`.
    pub title: String,
    /// Label and count, in the order in which they are shown.
    pub rows: Vec<(String, u64)>,
}

impl DataSummary {
    /// Writes `data.json`, in place of an earlier one.
    ///
    /// # Errors
    /// [`RunError::ReadOnly`], [`RunError::Io`].
    pub fn write(&self, run: &RunFolder) -> Result<(), RunError> {
        write_json(run, DATA, self)
    }
}

/// The data summary of a run folder, or `None` if there is none yet.
///
/// # Errors
/// [`RunError::Broken`] with the line, [`RunError::Io`].
pub fn read_data_summary(run: &Path) -> Result<Option<DataSummary>, RunError> {
    read_json(&run.join(DATA))
}

/// Writes `value` as the file `name` of the run folder, in place of an earlier one.
pub(crate) fn write_json<T: Serialize>(run: &RunFolder, name: &str, value: &T) -> Result<(), RunError> {
    run.writable()?;
    let path = run.file(name);
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| RunError::NotJson { path: path.clone(), detail: error.to_string() })?;
    write_atomic(&path, &bytes)
}

/// A JSON file, or `None` if it is missing.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RunError> {
    match std::fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(RunError::broken(path, error.line(), error)),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RunError::io(path)(error)),
    }
}
