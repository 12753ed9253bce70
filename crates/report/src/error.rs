//! Why there is no report.

use std::path::PathBuf;

use vul2safe_run::RunError;

/// An error of the report. `Display` says what is wrong and where; [`ReportError::hint`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The run folder is missing or one of its files is broken.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The folder of the samples cannot be listed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A template of this crate is wrong.
    #[error("the report's template failed: {0:#}")]
    Template(#[from] minijinja::Error),
}

impl ReportError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ReportError::Run(error) => error.hint(),
            ReportError::Io { .. } => None,
            ReportError::Template(_) => Some("this is a fault of the program: please report it".into()),
        }
    }
}
