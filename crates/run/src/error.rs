//! What can go wrong with a run folder, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the run folder. `Display` says what is wrong and where; [`RunError::hint`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The operating system refused to read or write a path.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process is working in the folder.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// The folder was made with another configuration.
    #[error("{} was made with another configuration: `{key}` was {existing}, now it is {wanted}", path.display())]
    ConfigurationDiffers {
        /// The run folder.
        path: PathBuf,
        /// Dotted name of the first key whose values differ, in the order of the names.
        key: String,
        /// The value the folder was made with, or `not set`.
        existing: String,
        /// The value that is asked for now, or `not set`.
        wanted: String,
    },
    /// The folder holds files, but not those of a run.
    #[error("{} is not a run folder: it holds `{found}` and no config.toml", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// One of the files in it.
        found: String,
    },
    /// There is no such run folder.
    #[error("no run folder at {}: it has no config.toml", path.display())]
    Missing {
        /// The folder that was named.
        path: PathBuf,
    },
    /// A file of the folder cannot be understood.
    #[error("{}:{line}: {detail}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong there.
        detail: String,
    },
    /// The folder was opened to be read, and something asked to write.
    #[error("{} was opened to be read only", path.display())]
    ReadOnly {
        /// The run folder.
        path: PathBuf,
    },
    /// A name that cannot be used for what it was meant for.
    #[error("`{name}` cannot name a {what}: {why}")]
    BadName {
        /// What was to be named: `metric`, `stage`, `samples file`.
        what: &'static str,
        /// The name.
        name: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// A value cannot be written as JSON.
    #[error("{}: cannot be written as JSON: {detail}", path.display())]
    NotJson {
        /// The file that was to be written.
        path: PathBuf,
        /// What is wrong with the value.
        detail: String,
    },
}

impl RunError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            RunError::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => {
                    Some("free some space and start the same command again; what was finished is kept".into())
                }
                io::ErrorKind::PermissionDenied => {
                    Some("choose a folder that you may write to with `--out`".into())
                }
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                    Some("a file stands where a folder is needed; choose another folder with `--out`".into())
                }
                _ => Some("check that the path exists and can be written to".into()),
            },
            RunError::Locked { .. } => {
                Some("wait for it or end it, or choose another folder with `--out`".into())
            }
            RunError::ConfigurationDiffers { .. } | RunError::NotARun { .. } => {
                Some("choose another folder with `--out`, or delete this one to start anew".into())
            }
            RunError::Missing { .. } => {
                Some("name the folder that a `run` or `demo` command printed as its output".into())
            }
            RunError::Broken { path, .. } => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                Some(match name.as_ref() {
                    "journal.jsonl" => {
                        "remove the line and those after it: the stages they name run again".into()
                    }
                    "metrics.jsonl" => "remove the line: it only holds one point of a learning curve".into(),
                    _ => format!("delete {name} and start the command that made it again"),
                })
            }
            RunError::ReadOnly { .. } | RunError::BadName { .. } | RunError::NotJson { .. } => None,
        }
    }

    /// Attaches the path that an I/O error lacks.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
        move |source| RunError::Io { path: path.to_path_buf(), source }
    }

    /// A line, counted from 1, that cannot be understood.
    pub(crate) fn broken(path: &Path, line: usize, detail: impl ToString) -> RunError {
        RunError::Broken { path: path.to_path_buf(), line, detail: detail.to_string() }
    }
}
