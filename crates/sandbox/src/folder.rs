//! The private folder of one run.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::mount::{self, FileSystem, Request};

/// Every private folder is called this and six characters.
const PREFIX: &str = "vul2safe-sandbox-";
const RANDOM_CHARACTERS: usize = 6;
/// A folder that nobody holds is only taken for left behind after this time: its caller may be about to lock it.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(600);

/// Most files, folders and links that a private folder may hold.
const MOST_ENTRIES: u64 = 10_000;
/// Open to owner and group; what is made inside belongs to the same group.
const SHARED_FOLDER: u32 = 0o2770;

/// How a private folder is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FolderOptions {
    /// The run's own user; the caller if `None`.
    pub(crate) owner: Option<u32>,
    /// Whether a leader needs to reach it.
    pub(crate) shared: bool,
    /// Most bytes that it may hold.
    pub(crate) bytes: u64,
}

/// A folder that only its run can see; removed, whatever is in it, when dropped.
pub(crate) struct PrivateFolder {
    /// Where the caller reaches it.
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// A file system of its own, attached by the run itself. The path leads through the descriptor.
    FileSystem(FileSystem),
    /// A folder among others.
    Folder {
        /// Locked while the run lasts and freed by a kill of the caller, so that a later caller can tell what is left
        /// behind.
        _lock: File,
    },
}

impl PrivateFolder {
    /// Makes a folder in `base` and writes `files` into it. One that is shared is open to its owner's group, which
    /// everything made in it then belongs to.
    pub(crate) fn create(
        base: &Path,
        options: FolderOptions,
        files: &[(String, Vec<u8>)],
    ) -> io::Result<PrivateFolder> {
        let made = tempfile::Builder::new().prefix(PREFIX).rand_bytes(RANDOM_CHARACTERS).tempdir_in(base)?;
        let lock = File::open(made.path())?;
        // Where locks are not supported nothing can be told apart and nothing is ever taken for left behind.
        let _ = lock.try_lock();
        let folder = PrivateFolder { path: made.keep(), kind: Kind::Folder { _lock: lock } };
        let FolderOptions { owner, shared, .. } = options;
        for (name, contents) in files {
            folder.write(name, contents, owner, shared)?;
        }
        // The folder is handed over last: until then nobody but the caller can put anything into it.
        if let Some(owner) = owner {
            chown(&folder.path, Some(owner), Some(owner))?;
        }
        if shared {
            fs::set_permissions(&folder.path, Permissions::from_mode(SHARED_FOLDER))?;
        }
        Ok(folder)
    }

    /// Makes a file system of its own and writes `files` into it. Where it is shared it gets a second view.
    pub(crate) fn mounted(
        options: FolderOptions,
        in_user_namespace: bool,
        files: &[(String, Vec<u8>)],
    ) -> io::Result<PrivateFolder> {
        let file_system = mount::make(&Request {
            // The given files are no part of what the program may write.
            bytes: options.bytes.saturating_add(files.iter().map(|(_, contents)| rounded_up(contents)).sum()),
            entries: MOST_ENTRIES + 2 * files.len() as u64,
            owner: options.owner,
            mode: 0o700,
            second_view: options.shared,
            in_user_namespace,
        })?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file_system.view.as_raw_fd()));
        let folder = PrivateFolder { path, kind: Kind::FileSystem(file_system) };
        for (name, contents) in files {
            folder.write(name, contents, options.owner, false)?;
        }
        Ok(folder)
    }

    /// Where the caller reaches it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file system to attach for the run, if it has one.
    pub(crate) fn file_system(&self) -> Option<&FileSystem> {
        match &self.kind {
            Kind::FileSystem(file_system) => Some(file_system),
            Kind::Folder { .. } => None,
        }
    }

    /// Whether no further byte or no further file would fit into the run's own file system. False for a mere folder.
    pub(crate) fn is_full(&self) -> bool {
        let Kind::FileSystem(file_system) = &self.kind else { return false };
        // SAFETY: the kernel fills a live, all-zero structure; the descriptor is open.
        unsafe {
            let mut information: libc::statvfs = std::mem::zeroed();
            libc::fstatvfs(file_system.view.as_raw_fd(), &mut information) == 0
                && (information.f_bfree == 0 || information.f_ffree == 0)
        }
    }

    fn write(&self, name: &str, contents: &[u8], owner: Option<u32>, shared: bool) -> io::Result<()> {
        let relative = Path::new(name);
        if name.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is not a path inside the private folder"),
            ));
        }
        let mut folder = self.path.clone();
        if let Some(parent) = relative.parent() {
            for part in parent.components() {
                folder.push(part);
                match fs::create_dir(&folder) {
                    Ok(()) => {
                        chown(&folder, owner, owner)?;
                        if shared {
                            fs::set_permissions(&folder, Permissions::from_mode(SHARED_FOLDER))?;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let path = self.path.join(relative);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
        file.write_all(contents)?;
        std::os::unix::fs::fchown(&file, owner, owner)?;
        if shared {
            file.set_permissions(Permissions::from_mode(0o770))?;
        }
        Ok(())
    }

    /// Bytes in the folder, counted up to `enough`. Links are not followed, also when the run replaces a folder by one
    /// meanwhile. A tree of more than 10,000 entries, or deeper than 64 folders, counts as too much. A file system of
    /// its own limits itself and counts as empty.
    pub(crate) fn size(&self, enough: u64) -> u64 {
        if self.file_system().is_some() {
            return 0;
        }
        let mut count = Count { total: 0, entries: 0, enough };
        let Ok(top) = open_folder(&self.path) else { return 0 };
        if count.add(&top, 64) { count.total } else { u64::MAX }
    }
}

/// What a walk through a private folder has seen.
struct Count {
    total: u64,
    entries: u64,
    enough: u64,
}

impl Count {
    /// Adds what is in an opened folder. False when it is too much to look at.
    fn add(&mut self, folder: &File, depth: u32) -> bool {
        // The way through the descriptor leads to this folder, whatever its name stands for by now.
        let here = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let Ok(listing) = fs::read_dir(&here) else { return true };
        for entry in listing.flatten() {
            self.entries += 1;
            let Ok(metadata) = entry.metadata() else { continue };
            self.total = self.total.saturating_add(metadata.len());
            if self.entries > MOST_ENTRIES || depth == 0 {
                return false;
            }
            if self.total > self.enough {
                return true;
            }
            if metadata.is_dir()
                && let Ok(inner) = open_folder(&entry.path())
                && !self.add(&inner, depth - 1)
            {
                return false;
            }
        }
        true
    }
}

fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Bytes that a file takes in a file system in memory.
fn rounded_up(contents: &Vec<u8>) -> u64 {
    (contents.len() as u64).next_multiple_of(4096)
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if self.file_system().is_some() {
            // Goes with the last descriptor and the run's mount namespace.
            return;
        }
        // Processes that were just killed may still be finishing one last call, so a second try can be needed.
        for _ in 0..3 {
            if remove_tree(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

/// Removes the private folders in `base` whose callers were killed, if `owned` by a user of ours. What cannot be removed
/// stays: this tidies up and is no condition for anything.
pub(crate) fn remove_left_behind(base: &Path, owned: impl Fn(u32) -> bool, now: SystemTime) {
    let Ok(listing) = fs::read_dir(base) else { return };
    let left: Vec<(PathBuf, File)> = listing
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let random = name.to_str()?.strip_prefix(PREFIX)?;
            let ours = random.len() == RANDOM_CHARACTERS && random.bytes().all(|c| c.is_ascii_alphanumeric());
            let metadata = entry.metadata().ok()?;
            // The time of the last change of the folder's own entry, which the code that ran in it cannot set.
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).ok()?);
            let old = now.duration_since(changed).is_ok_and(|age| age >= LEFT_BEHIND_AFTER);
            if !(ours && metadata.is_dir() && old && owned(metadata.uid())) {
                return None;
            }
            let folder = open_folder(&entry.path()).ok()?;
            folder.try_lock().ok()?;
            Some((entry.path(), folder))
        })
        .collect();
    if left.is_empty() {
        return;
    }
    // Processes of a killed caller may still live in these folders, so only the standard library's removal will do,
    // which follows no links. It recurses, and hostile code may have nested folders deeply: hence the large stack.
    let removal = std::thread::Builder::new().stack_size(256 << 20).spawn(move || {
        for (path, _lock) in left {
            let _ = fs::remove_dir_all(path);
        }
    });
    if let Ok(removal) = removal {
        let _ = removal.join();
    }
}

/// Removes a tree that was built by hostile code: nested deeper than any path or stack allows, with folders that
/// forbid to be listed. Folders are moved up to the top one by one, so nothing recurses and no path grows long.
fn remove_tree(top: &Path) -> io::Result<()> {
    let mut moved = 0u64;
    loop {
        let mut folders = Vec::new();
        empty_files(top, &mut folders)?;
        if folders.is_empty() {
            return match fs::remove_dir(top) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        }
        for folder in folders {
            let mut inner = Vec::new();
            fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
            empty_files(&folder, &mut inner)?;
            for path in inner {
                // Moving a folder rewrites its `..`, which needs the right to write in it.
                fs::set_permissions(&path, Permissions::from_mode(0o700))?;
                loop {
                    moved += 1;
                    let target = top.join(format!(".removing-{moved}"));
                    if fs::symlink_metadata(&target).is_err() {
                        fs::rename(&path, target)?;
                        break;
                    }
                }
            }
            fs::remove_dir(&folder)?;
        }
    }
}

/// Removes everything in a folder that is not a folder, and lists the folders.
fn empty_files(folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: FolderOptions = FolderOptions { owner: None, shared: false, bytes: 1 << 20 };

    #[test]
    fn files_are_written_and_everything_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let files = vec![("a/b/c.txt".to_string(), b"x".to_vec()), ("a/d".to_string(), vec![0; 100])];
        let folder = PrivateFolder::create(base.path(), OPTIONS, &files).unwrap();
        assert_eq!(fs::read(folder.path().join("a/b/c.txt")).unwrap(), b"x");
        assert!(folder.size(u64::MAX) >= 101);
        std::os::unix::fs::symlink("/", folder.path().join("a/link")).unwrap();
        fs::create_dir(folder.path().join("closed")).unwrap();
        fs::create_dir(folder.path().join("closed/inner")).unwrap();
        fs::set_permissions(folder.path().join("closed"), Permissions::from_mode(0o000)).unwrap();
        let path = folder.path().to_path_buf();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let base = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/x", "", "a/../../x", "."] {
            let files = vec![(name.to_string(), Vec::new())];
            assert!(PrivateFolder::create(base.path(), OPTIONS, &files).is_err(), "{name:?}");
        }
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_a_killed_caller_left_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let used = PrivateFolder::create(base.path(), OPTIONS, &[]).unwrap();
        let left = base.path().join(format!("{PREFIX}a1B2c3"));
        let foreign = base.path().join(format!("{PREFIX}my-data"));
        for folder in [&left, &foreign] {
            fs::create_dir_all(folder.join("inner")).unwrap();
            fs::write(folder.join("inner/file"), "x").unwrap();
        }
        std::os::unix::fs::symlink("/", left.join("link")).unwrap();
        let me = fs::metadata(&left).unwrap().uid();
        let later = SystemTime::now() + LEFT_BEHIND_AFTER + Duration::from_secs(5);
        remove_left_behind(base.path(), |user| user == me, SystemTime::now());
        assert!(left.exists(), "too young");
        remove_left_behind(base.path(), |user| user != me, later);
        assert!(left.exists(), "not ours");
        remove_left_behind(base.path(), |user| user == me, later);
        assert!(!left.exists(), "left behind");
        assert!(used.path().exists() && foreign.exists(), "in use, and somebody else's");
    }

    #[test]
    fn a_tree_too_deep_for_a_path_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::create(base.path(), OPTIONS, &[]).unwrap();
        // Build from the inside out, because a path of 1,000 levels cannot be named.
        let (mut inner, outer) = (folder.path().join("inner"), folder.path().join("outer"));
        fs::create_dir(&inner).unwrap();
        for _ in 0..1_000 {
            fs::create_dir(&outer).unwrap();
            fs::rename(&inner, outer.join("inner")).unwrap();
            inner = folder.path().join("inner");
            fs::rename(&outer, &inner).unwrap();
        }
        let path = folder.path().to_path_buf();
        drop(folder);
        assert!(!path.exists());
    }
}
