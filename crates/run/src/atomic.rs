//! Files that are either the old or the new one, never half of it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::RunError;

/// Ends the names of files that are being written; a kill can leave one behind.
pub(crate) const TEMPORARY_SUFFIX: &str = ".partial";

/// Writes `bytes` to `path` so that a reader, also one after a power cut, sees the old file or the whole new
/// one: a file beside it is written and synchronised, renamed over `path`, and the folder is synchronised.
///
/// Missing parent folders are made.
///
/// # Errors
/// [`RunError::Io`] with the path; the old file is then unharmed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let folder = parent(path);
    fs::create_dir_all(&folder).map_err(RunError::io(&folder))?;
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    builder.prefix(&prefix).suffix(TEMPORARY_SUFFIX);
    // Temporary files are private by default; the final file gets what the user's umask says.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(&folder).map_err(RunError::io(path))?;
    file.write_all(bytes).map_err(RunError::io(path))?;
    file.as_file().sync_all().map_err(RunError::io(path))?;
    file.persist(path).map_err(|error| RunError::Io { path: path.to_path_buf(), source: error.error })?;
    sync_folder(&folder)
}

/// Makes renames and new names in `folder` survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), RunError> {
    #[cfg(unix)]
    File::open(folder).and_then(|file| file.sync_all()).map_err(RunError::io(folder))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// The folder a path lies in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
