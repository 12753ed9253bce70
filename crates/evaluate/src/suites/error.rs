//! Why a suite could not be read, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a suite could not be read. `Display` says what is wrong and where; [`SuiteError::hint`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuiteError {
    /// The operating system refused to read a path.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A folder where a file is wanted.
    #[error("{}: this is a folder, and {suite} is one file", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The suite.
        suite: &'static str,
        /// Names of the file in the suite's own repository.
        wanted: &'static str,
    },
    /// A file where a folder is wanted.
    #[error("{}: this is a file, and {suite} is a folder", path.display())]
    NotFolder {
        /// The file.
        path: PathBuf,
        /// The suite.
        suite: &'static str,
        /// Name of the folder in the suite's own repository.
        wanted: &'static str,
    },
    /// A compressed file that is damaged or incomplete.
    #[error("{}: the gzip data is damaged or cut short: {why}", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        why: String,
    },
    /// A file larger than any suite.
    #[error("{}: more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: usize,
    },
    /// Text that is no UTF-8.
    #[error("{place}: not UTF-8 (byte {byte} is the first that is not)")]
    NotText {
        /// The file.
        place: String,
        /// Offset of the first byte that is wrong.
        byte: usize,
    },
    /// Text that is not in the format of the file.
    #[error("{place}: {why}")]
    Broken {
        /// File and line, or file and record.
        place: String,
        /// What is wrong there.
        why: String,
    },
    /// A record lacks a field of the format.
    #[error("{place}: no `{field}`; the record has {found}")]
    Missing {
        /// File and line, or file and record.
        place: String,
        /// The field.
        field: &'static str,
        /// The fields that are there.
        found: String,
    },
    /// A field holds something else than the format says.
    #[error("{place}: `{field}` must be {wanted}, and is {found}")]
    WrongType {
        /// File and line, or file and record.
        place: String,
        /// The field.
        field: String,
        /// What the format says.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Two tasks have one id.
    #[error("{place}: the id `{id}` was used before, at {first}")]
    Duplicate {
        /// File and line, or file and record.
        place: String,
        /// The id.
        id: String,
        /// Where it was used first.
        first: String,
    },
    /// A task of a suite with tests has none.
    #[error("{place}: the task `{id}` has no test: {why}")]
    NoTest {
        /// File and line, or file and record.
        place: String,
        /// The task.
        id: String,
        /// What is missing.
        why: String,
    },
    /// A line of a file of answers lacks its task or its answer.
    #[error("{place}: none of the fields `{fields}` is there")]
    NoAnswer {
        /// File and line, or file and record.
        place: String,
        /// Fields that would do.
        fields: String,
    },
    /// An answer to a task that the suite does not have.
    #[error("{place}: the suite has no task `{id}`")]
    UnknownTask {
        /// File and line, or file and record.
        place: String,
        /// The task.
        id: String,
    },
    /// There is no task.
    #[error("{}: no task of {suite} in it", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
        /// The suite.
        suite: &'static str,
    },
    /// Every task is in a language that cannot be judged.
    #[error("{}: none of its {tasks} tasks can be judged: {reasons}", path.display())]
    NothingToJudge {
        /// The file or folder.
        path: PathBuf,
        /// Tasks there are.
        tasks: usize,
        /// Why, with counts.
        reasons: String,
    },
}

impl SuiteError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            SuiteError::Io { .. } => {
                "check the path (`--data`); relative paths start at the current folder".to_owned()
            }
            SuiteError::Folder { wanted, .. } => format!("name the file itself, in its repository {wanted}"),
            SuiteError::NotFolder { wanted, .. } => {
                format!("name the folder, in its repository {wanted}")
            }
            SuiteError::Gzip { .. } | SuiteError::TooLarge { .. } | SuiteError::NotText { .. } => {
                "fetch the file again from where the suite is published".to_owned()
            }
            SuiteError::Broken { .. }
            | SuiteError::Missing { .. }
            | SuiteError::WrongType { .. }
            | SuiteError::NoTest { .. }
            | SuiteError::Empty { .. } => {
                "is this the file of another suite, or another version of it? `docs/src/reference/suites.md` describes \
                 each format that is read"
                    .to_owned()
            }
            SuiteError::NoAnswer { .. } => {
                "every line is a JSON object such as {\"task_id\": \"HumanEval/0\", \"completion\": \"    return 1\"}"
                    .to_owned()
            }
            SuiteError::UnknownTask { .. } => {
                "are the answers to another suite, or to another version of it?".to_owned()
            }
            SuiteError::Duplicate { .. } => "remove one of the two tasks, or give it another id".to_owned(),
            SuiteError::NothingToJudge { .. } => "choose a part of the suite in Python, C or C++".to_owned(),
        })
    }

    /// The same error for another crate's readers of JSON Lines.
    pub(crate) fn broken(place: impl Into<String>, why: impl ToString) -> SuiteError {
        SuiteError::Broken { place: place.into(), why: why.to_string() }
    }
}
