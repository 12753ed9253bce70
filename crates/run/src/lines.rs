//! Files of JSON lines that grow, and their last line after a kill.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::RunError;

/// The complete lines of such a file, and whether its end must be repaired before more is appended.
pub(crate) struct Lines<T> {
    /// Line number, counted from 1, and its value; empty lines are skipped.
    pub values: Vec<(usize, T)>,
    /// Bytes at the start of the file that are whole lines.
    pub whole: usize,
    /// What follows them.
    pub tail: Tail,
}

/// How a file of lines ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With a newline, as written.
    Complete,
    /// With a whole value whose newline is missing.
    NoNewline,
    /// With a piece of a line, as a kill in the middle of a write leaves it.
    Torn,
}

/// Reads all values; a missing file has none. A torn last line is left out, any other line that is not
/// understood is an error.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Lines<T>, RunError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(RunError::io(path)(error)),
    };
    let mut lines = Lines { values: Vec::new(), whole: 0, tail: Tail::Complete };
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let ended = line.ends_with(b"\n");
        if ended && line.trim_ascii().is_empty() {
            lines.whole += line.len();
            continue;
        }
        // Every value is a JSON object, and no proper beginning of an object is valid JSON: a last line that
        // parses is whole even without its newline.
        match serde_json::from_slice(line) {
            Ok(value) => lines.values.push((index + 1, value)),
            Err(_) if !ended => {
                lines.tail = Tail::Torn;
                break;
            }
            Err(error) => return Err(RunError::broken(path, index + 1, error)),
        }
        lines.whole += line.len();
        if !ended {
            lines.tail = Tail::NoNewline;
        }
    }
    Ok(lines)
}

/// Makes the file end with a whole line, so that the next append starts a new one.
pub(crate) fn repair<T>(path: &Path, lines: &Lines<T>) -> Result<(), RunError> {
    if lines.tail == Tail::Complete {
        return Ok(());
    }
    let mut file = OpenOptions::new().append(true).open(path).map_err(RunError::io(path))?;
    let repaired = match lines.tail {
        Tail::Torn => file.set_len(lines.whole as u64),
        _ => file.write_all(b"\n"),
    };
    repaired.and_then(|()| file.sync_all()).map_err(RunError::io(path))
}

/// Opens the file to append to it.
pub(crate) fn appender(path: &Path) -> Result<File, RunError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(RunError::io(path))
}
