//! The run folder itself: made once, locked while in use, continued by the same configuration only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::atomic::TEMPORARY_SUFFIX;
use crate::configuration::first_difference;
use crate::journal::{self, StageEntry};
use crate::metrics::{Metrics, MetricsWriter};
use crate::{RunError, write_atomic};

const CONFIGURATION: &str = "config.toml";
const ENVIRONMENT: &str = "environment.json";
const CONTINUED: &str = "continued.jsonl";
const LOCK: &str = ".lock";
/// How often and with which pause the lock is tried before the folder counts as in use.
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// The key of `environment.json` that says when the run was begun.
const STARTED_AT: &str = "started_at";

/// One run's folder. `Send` and `Sync`; every method may be called from several threads.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held, never read: closing it, also by a kill, frees the folder. `None` for a folder that is only read.
    lock: Option<File>,
    stages: Mutex<Vec<StageEntry>>,
    metrics: Arc<Mutex<MetricsWriter>>,
}

impl RunFolder {
    /// Makes the folder, or continues it if it was made with the same configuration.
    ///
    /// `resolved_toml` goes to `config.toml` and `environment` (an object: versions, seed, hashes of the data)
    /// to `environment.json`, with `started_at` added. Configurations are compared by value, so comments and
    /// order do not count. A run that is continued keeps the environment it was begun with; if the present one
    /// differs, it is added to `continued.jsonl`.
    ///
    /// # Errors
    /// [`RunError::Locked`] while another process works in it, [`RunError::ConfigurationDiffers`],
    /// [`RunError::NotARun`] for a folder with foreign files, [`RunError::Broken`] and [`RunError::Io`].
    pub fn create_or_resume(
        path: &Path,
        resolved_toml: &str,
        environment: Value,
    ) -> Result<RunFolder, RunError> {
        fs::create_dir_all(path).map_err(RunError::io(path))?;
        let configuration = path.join(CONFIGURATION);
        // Looked at before the lock file is made, so that a foreign folder stays as it was.
        if !configuration.exists() {
            refuse_foreign(path)?;
        }
        let lock = lock(path)?;
        remove_partial(path)?;
        match fs::read_to_string(&configuration) {
            Ok(existing) => {
                if let Some(difference) = first_difference(&existing, resolved_toml) {
                    return Err(RunError::ConfigurationDiffers {
                        path: path.to_path_buf(),
                        key: difference.key,
                        existing: difference.left,
                        wanted: difference.right,
                    });
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write_atomic(&configuration, resolved_toml.as_bytes())?;
            }
            Err(error) => return Err(RunError::io(&configuration)(error)),
        }
        keep_environment(path, environment)?;
        let stages = journal::read_and_repair(path)?;
        Ok(RunFolder::with(path, Some(lock), stages))
    }

    /// Opens a folder to read it; needs no lock, so a run can be looked at while it goes on.
    ///
    /// # Errors
    /// [`RunError::Missing`], [`RunError::Broken`] for a broken journal, [`RunError::Io`].
    pub fn open(path: &Path) -> Result<RunFolder, RunError> {
        if !path.join(CONFIGURATION).is_file() {
            return Err(RunError::Missing { path: path.to_path_buf() });
        }
        Ok(RunFolder::with(path, None, journal::read_journal(path)?))
    }

    fn with(path: &Path, lock: Option<File>, stages: Vec<StageEntry>) -> RunFolder {
        let metrics = Arc::new(Mutex::new(MetricsWriter::new(path)));
        RunFolder { path: path.to_path_buf(), lock, stages: Mutex::new(stages), metrics }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file or folder in it; nothing is made.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The entry of a stage that is done.
    pub fn finished(&self, stage: &str) -> Option<StageEntry> {
        self.stages().into_iter().find(|entry| entry.stage == stage)
    }

    /// All stages that are done, in the order in which they were finished.
    pub fn stages(&self) -> Vec<StageEntry> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a stage is done; when this returns, the note is on the disk. Call it after everything the
    /// stage made has been written.
    ///
    /// # Errors
    /// [`RunError::ReadOnly`], [`RunError::NotJson`] for seconds that are not finite, [`RunError::Io`].
    pub fn finish(&self, stage: &str, seconds: f64, summary: Value) -> Result<(), RunError> {
        self.writable()?;
        let finished_at = now();
        let entry = StageEntry { stage: stage.to_owned(), seconds, finished_at, summary };
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).sync()?;
        journal::append(&self.path, &entry)?;
        journal::insert(&mut stages, entry);
        Ok(())
    }

    /// Where a stage logs its scalars. What an interrupted earlier try of this stage wrote is dropped first.
    ///
    /// # Errors
    /// [`RunError::ReadOnly`], [`RunError::BadName`] for a stage whose name is empty or has a `/`,
    /// [`RunError::Broken`] for a broken `metrics.jsonl`, [`RunError::Io`].
    pub fn metrics(&self, stage: &str) -> Result<Metrics, RunError> {
        self.metrics_from(stage, 0)
    }

    /// Like [`RunFolder::metrics`], for a stage that continues at `first_step`: its lines of earlier steps
    /// are kept.
    ///
    /// # Errors
    /// As [`RunFolder::metrics`].
    pub fn metrics_from(&self, stage: &str, first_step: u64) -> Result<Metrics, RunError> {
        self.writable()?;
        Metrics::start(Arc::clone(&self.metrics), stage, first_step)
    }

    pub(crate) fn writable(&self) -> Result<(), RunError> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(RunError::ReadOnly { path: self.path.clone() }),
        }
    }
}

/// The environment that a run was begun in, or `None` if its folder has no `environment.json`.
///
/// # Errors
/// [`RunError::Broken`] with the line, [`RunError::Io`].
pub fn read_environment(run: &Path) -> Result<Option<Value>, RunError> {
    crate::data::read_json(&run.join(ENVIRONMENT))
}

/// The resolved configuration of a run, as TOML.
///
/// # Errors
/// [`RunError::Missing`] if the folder has none, [`RunError::Broken`] if it is not UTF-8, [`RunError::Io`].
pub fn read_configuration(run: &Path) -> Result<String, RunError> {
    let path = run.join(CONFIGURATION);
    match fs::read(&path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            RunError::broken(&path, line, "not UTF-8")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(RunError::Missing { path: run.to_path_buf() })
        }
        Err(error) => Err(RunError::io(&path)(error)),
    }
}

/// The present time, RFC 3339 in UTC, to the second.
fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

/// Refuses a folder that holds anything but what a kill in the first instant of a run leaves behind.
fn refuse_foreign(path: &Path) -> Result<(), RunError> {
    for entry in fs::read_dir(path).map_err(RunError::io(path))? {
        let name = entry.map_err(RunError::io(path))?.file_name().to_string_lossy().into_owned();
        if name != LOCK && !is_partial(&name) {
            return Err(RunError::NotARun { path: path.to_path_buf(), found: name });
        }
    }
    Ok(())
}

fn is_partial(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX)
}

/// Removes files that a kill left half written; the lock says that nobody is still writing them.
fn remove_partial(path: &Path) -> Result<(), RunError> {
    for entry in fs::read_dir(path).map_err(RunError::io(path))? {
        let entry = entry.map_err(RunError::io(path))?;
        if is_partial(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(RunError::io(&entry.path()))?;
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, RunError> {
    let file_path = path.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file_path)
        .map_err(RunError::io(&file_path))?;
    // A process that another thread is just starting shares this process's open files, and with them its locks,
    // for the moment until it runs its own program; and one that was just killed takes a moment to go.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(RunError::io(&file_path)(source)),
        }
    }
    Err(RunError::Locked { path: path.to_path_buf() })
}

fn keep_environment(path: &Path, mut environment: Value) -> Result<(), RunError> {
    let file = path.join(ENVIRONMENT);
    let to_bytes = |value: &Value| {
        serde_json::to_vec_pretty(value)
            .map_err(|error| RunError::NotJson { path: file.clone(), detail: error.to_string() })
    };
    if !file.exists() {
        if let Value::Object(object) = &mut environment {
            object.entry(STARTED_AT).or_insert_with(|| now().into());
        }
        return write_atomic(&file, &to_bytes(&environment)?);
    }
    let bytes = fs::read(&file).map_err(RunError::io(&file))?;
    let mut existing: Value =
        serde_json::from_slice(&bytes).map_err(|error| RunError::broken(&file, error.line(), error))?;
    for value in [&mut existing, &mut environment] {
        if let Value::Object(object) = value {
            object.remove(STARTED_AT);
        }
    }
    if existing == environment {
        return Ok(());
    }
    use std::io::Write;
    let continued = path.join(CONTINUED);
    let lines = crate::lines::read::<Value>(&continued)?;
    crate::lines::repair(&continued, &lines)?;
    let line = serde_json::json!({"continued_at": now(), "environment": environment});
    let mut file = crate::lines::appender(&continued)?;
    writeln!(file, "{line}").and_then(|()| file.sync_all()).map_err(RunError::io(&continued))
}
