//! The log of an evaluation: JSON Lines, one answer a line, appended as soon as the answer is judged.
//!
//! A kill loses at most the answers that were being judged. Their lines are missing, or the last line is torn; it is cut
//! off when the log is opened again, and those answers are judged once more. Every other answer is judged once.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rayon::prelude::*;

use crate::{Answer, Entry, Item, Judging};

/// How often and with which pause the lock is tried before the log counts as in use.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused to read or write it.
    #[error("{}: {source}", path.display())]
    Io {
        /// The log.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The log.
        path: PathBuf,
    },
    /// A line that is no entry.
    #[error("{}:{line}: {why}", path.display())]
    Broken {
        /// The log.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Entries of another suite, version or model than those that are to be added.
    #[error("{}:{line}: `{field}` is {found:?}, and {wanted:?} is being evaluated", path.display())]
    Other {
        /// The log.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What differs.
        field: &'static str,
        /// What the log has.
        found: String,
        /// What is being evaluated.
        wanted: String,
    },
}

impl LogError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            LogError::Io { .. } => "check the path, and that it may be read and written".to_owned(),
            LogError::Locked { .. } => {
                "wait for the other evaluation to end, or give another `--out`".to_owned()
            }
            LogError::Broken { .. } => {
                "remove the line: its answer is judged again by the same command".to_owned()
            }
            LogError::Other { .. } => "give another `--out` for another evaluation".to_owned(),
        })
    }
}

/// The complete entries of a log, in their order; a last line that a kill tore is left out.
///
/// # Errors
/// [`LogError::Io`], [`LogError::Broken`].
pub fn read_log(path: &Path) -> Result<Vec<Entry>, LogError> {
    let bytes = std::fs::read(path).map_err(|source| LogError::Io { path: path.to_path_buf(), source })?;
    Ok(entries(path, &bytes)?.0)
}

/// Entries, and how many bytes at the start are whole lines.
fn entries(path: &Path, bytes: &[u8]) -> Result<(Vec<Entry>, usize), LogError> {
    let mut found = Vec::new();
    let mut whole = 0;
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        // A line without its end may be a beginning of one, whatever it parses to: it is judged again.
        if !line.ends_with(b"\n") {
            break;
        }
        if !line.trim_ascii().is_empty() {
            let entry = serde_json::from_slice(line).map_err(|error| LogError::Broken {
                path: path.to_path_buf(),
                line: index + 1,
                why: error.to_string(),
            })?;
            found.push(entry);
        }
        whole += line.len();
    }
    Ok((found, whole))
}

/// Locks the log until it is closed.
fn lock(file: &File, path: &Path) -> Result<(), LogError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            // A process that another thread is just starting, or one whose parent was just killed, shares the open files of
            // its parent, and with them the lock, for a moment.
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => {
                return Err(LogError::Io { path: path.to_path_buf(), source });
            }
        }
    }
    Err(LogError::Locked { path: path.to_path_buf() })
}

/// A log that is open for more entries. The file is locked as long as this lives.
pub struct Log {
    path: PathBuf,
    file: Mutex<File>,
    /// Task, seed and sample of the answers that are judged.
    judged: HashSet<(String, u64, u32)>,
}

impl Log {
    /// Opens the log at `path`, or begins it; entries that are there must be of this evaluation.
    ///
    /// # Errors
    /// [`LogError`]: another process writes to it, a line is damaged, it belongs to another evaluation.
    pub fn open(path: &Path, judging: &Judging<'_>) -> Result<Log, LogError> {
        let io = |source| LogError::Io { path: path.to_path_buf(), source };
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(io)?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(io)?;
        let (entries, whole) = entries(path, &bytes)?;
        if whole < bytes.len() {
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(io)?;
        }
        let mut judged = HashSet::new();
        for (index, entry) in entries.into_iter().enumerate() {
            for (field, found, wanted) in [
                ("suite", &entry.suite, judging.suite),
                ("suite_version", &entry.suite_version, judging.suite_version),
                ("model", &entry.model, judging.model),
            ] {
                if found != wanted {
                    return Err(LogError::Other {
                        path: path.to_path_buf(),
                        line: index + 1,
                        field,
                        found: found.clone(),
                        wanted: wanted.to_owned(),
                    });
                }
            }
            judged.insert((entry.task, entry.seed, entry.sample));
        }
        Ok(Log { path: path.to_path_buf(), file: Mutex::new(file), judged })
    }

    /// Whether an answer was judged before this log was opened.
    pub fn has(&self, task: &str, seed: u64, sample: u32) -> bool {
        self.judged.contains(&(task.to_owned(), seed, sample))
    }

    /// Appends an entry, with one write.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn append(&self, entry: &Entry) -> Result<(), LogError> {
        let io = |source| LogError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(entry).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&line).map_err(io)
    }

    /// Judges every answer that the log does not have, on all of rayon's threads, and appends it as soon as it is judged.
    /// `judged` is told of each. Returns how many were judged.
    ///
    /// # Errors
    /// [`LogError::Io`]: nothing more is judged then, and what was appended stays.
    pub fn judge(
        &self,
        judging: &Judging<'_>,
        items: &[Item],
        answers: &[Answer],
        judged: impl Fn(&Entry) + Sync,
    ) -> Result<usize, LogError> {
        let missing: Vec<&Answer> = answers
            .iter()
            .filter(|answer| !self.has(&items[answer.item].id, answer.seed, answer.sample))
            .collect();
        // One answer that loops takes a hundred times as long as the others, so threads take single answers.
        missing.par_iter().with_max_len(1).try_for_each(|answer| {
            let entry = judging.entry(&items[answer.item], answer);
            self.append(&entry)?;
            judged(&entry);
            Ok(())
        })?;
        let file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.sync_data().map_err(|source| LogError::Io { path: self.path.clone(), source })?;
        Ok(missing.len())
    }
}
