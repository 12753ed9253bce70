//! What `environment.json` says of the data and the machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::RunError;

/// BLAKE3 of a file, or of a folder: of its files' names (relative, sorted) and contents. In lower-case
/// hexadecimal. Links are followed to files, not into folders.
///
/// # Errors
/// [`RunError::Io`] with the path that cannot be read.
pub fn fingerprint(path: &Path) -> Result<String, RunError> {
    let metadata = fs::metadata(path).map_err(RunError::io(path))?;
    if metadata.is_file() {
        return Ok(file_hash(path)?.to_hex().to_string());
    }
    let mut files = Vec::new();
    collect(path, &mut files)?;
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
        // The length keeps one file's name from running into another's.
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(file_hash(&file)?.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn file_hash(path: &Path) -> Result<blake3::Hash, RunError> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(RunError::io(path))?;
    hasher.update_reader(file).map_err(RunError::io(path))?;
    Ok(hasher.finalize())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), RunError> {
    for entry in fs::read_dir(folder).map_err(RunError::io(folder))? {
        let entry = entry.map_err(RunError::io(folder))?;
        let path = entry.path();
        if entry.file_type().map_err(RunError::io(&path))?.is_dir() {
            collect(&path, files)?;
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// The machine, for `environment.json`: `system`, `architecture`, `cores`, and `processor` where it is known.
pub fn machine() -> serde_json::Value {
    let mut machine = serde_json::json!({
        "system": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map_or(1, |cores| cores.get()),
    });
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    if let Some((_, name)) = name {
        machine["processor"] = name.trim().into();
    }
    machine
}
