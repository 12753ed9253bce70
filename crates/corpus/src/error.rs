//! What can go wrong with a whole source. A single bad line is a [`crate::Dropped`], not an error.

use std::path::PathBuf;

/// A data set that cannot be read or written, or a pair that cannot be labelled.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The path does not exist.
    #[error("{path}: no such file or folder", path = path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// The file's extension is not one that the reader takes.
    #[error("{path}: expected a file that ends in .{expected}", path = path.display())]
    WrongExtension {
        /// The file.
        path: PathBuf,
        /// The extension without its dot.
        expected: &'static str,
    },
    /// The folder holds nothing that the reader takes.
    #[error("{path}: no .{expected} file in this folder", path = path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// The extension that was looked for, without its dot.
        expected: &'static str,
    },
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// A file is damaged as a whole, or is of another format.
    #[error("{path}: not a {kind} file that can be read: {message}", path = path.display())]
    BrokenFile {
        /// The file.
        path: PathBuf,
        /// The format it should have.
        kind: &'static str,
        /// The reader's reason.
        message: String,
    },
    /// A database lacks a table or a column.
    #[error("{path}: {message}", path = path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says, or what is absent.
        message: String,
    },
    /// A git repository cannot be read.
    #[error("{path}: {message}", path = path.display())]
    Git {
        /// The repository.
        path: PathBuf,
        /// What git says.
        message: String,
    },
    /// A line of a PrimeVul+ file is not a valid pair.
    #[error("{path}:{line}: field `{field}`: {message}", path = path.display())]
    InvalidPair {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field that is wrong, or `(line)` when it is not JSON at all.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {message}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// One side of a pair cannot be parsed at all (too long).
    #[error("the {side} side cannot be parsed: {message}")]
    Unparsable {
        /// `vulnerable` or `secure`.
        side: &'static str,
        /// The parser's reason.
        message: String,
    },
    /// Both sides have the same leaf tokens: only white space or comments differ.
    #[error("the two sides differ in white space and comments only")]
    NoDifference,
}

impl CorpusError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => {
                Some("check the path; relative paths start at the current folder (SVEN is the folder that holds data_train_val)".into())
            }
            Self::WrongExtension { expected, .. } => {
                Some(format!("give a .{expected} file, or choose another format with --source"))
            }
            Self::EmptyFolder { .. } => {
                Some("for SVEN give the folder that holds data_train_val, or one of its .jsonl files".into())
            }
            Self::BrokenFile { kind, .. } => {
                Some(format!("check that --source names the file's format and that the {kind} file is complete"))
            }
            Self::Git { message, .. } if message.contains("dubious ownership") => {
                Some("git reads only repositories of the user who asks; run as their owner or make a copy".into())
            }
            Self::Git { .. } => {
                Some("give the folder of a local git repository, and a revision that is in it; git must be installed".into())
            }
            Self::Database { .. } => Some(
                "CVEfixes is published as an SQL dump; make the database of it with `sqlite3 CVEfixes.db < CVEfixes.sql`"
                    .into(),
            ),
            Self::Io { .. } | Self::Write { .. } => {
                Some("check that the file is readable and the disk is not full".into())
            }
            Self::InvalidPair { .. } => {
                Some("mend or remove this line; `vul2safe data check FILE` lists every problem".into())
            }
            Self::Unparsable { .. } => Some("functions longer than 1 MiB are not supported".into()),
            Self::NoDifference => Some("such a pair teaches nothing; leave it out".into()),
        }
    }
}
