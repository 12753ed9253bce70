//! Where private folders are.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::SandboxError;
use crate::folder::{FolderOptions, PrivateFolder};

/// The places at which runs see their private file systems. The folders themselves stay empty.
pub(crate) struct MountPoints {
    /// Held for its removal.
    _folder: PrivateFolder,
    /// For the run's own.
    pub(crate) own: PathBuf,
    /// For what a follower shares with its leader, on both sides.
    pub(crate) follower: PathBuf,
}

impl MountPoints {
    pub(crate) fn create(base: &Path) -> Result<MountPoints, SandboxError> {
        let create = || -> io::Result<MountPoints> {
            let options = FolderOptions { owner: None, shared: false, bytes: 0 };
            let folder = PrivateFolder::create(base, options, &[])?;
            let (own, follower) = (folder.path().join("own"), folder.path().join("follower"));
            for path in [&own, &follower] {
                fs::create_dir(path)?;
                fs::set_permissions(path, Permissions::from_mode(0o700))?;
            }
            // Runs have users of their own, which must be able to pass through.
            fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
            Ok(MountPoints { _folder: folder, own, follower })
        };
        create().map_err(|source| SandboxError::Folder { path: base.to_path_buf(), source })
    }
}

/// Where private folders are made: shared memory if it is roomy and can hold programs (a database that syncs its file
/// then costs nothing), the temporary folder otherwise.
pub(crate) fn base_folder() -> Result<PathBuf, SandboxError> {
    const ROOM: u64 = 1 << 30;
    let memory = PathBuf::from("/dev/shm");
    if roomy_and_executable(&memory, ROOM) && tempfile::tempdir_in(&memory).is_ok() {
        return Ok(memory);
    }
    let path = std::env::temp_dir();
    match tempfile::tempdir_in(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(SandboxError::Folder { path, source }),
    }
}

fn roomy_and_executable(path: &Path, bytes: u64) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` is a C string, and the kernel fills a live, all-zero statvfs.
    unsafe {
        let mut information: libc::statvfs = std::mem::zeroed();
        libc::statvfs(path.as_ptr(), &mut information) == 0
            && information.f_flag & libc::ST_NOEXEC == 0
            && (information.f_bavail as u64).saturating_mul(information.f_frsize as u64) >= bytes
    }
}
