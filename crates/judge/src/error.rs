//! Why there is no judge.

use std::path::PathBuf;

/// Why a [`Judge`](crate::Judge) could not be made.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// No Python interpreter runs inside the sandbox.
    #[error("no Python 3 interpreter runs inside the sandbox; tried {}", tried_list(.tried))]
    NoPython {
        /// Each interpreter that was tried and what became of it.
        tried: Vec<(PathBuf, String)>,
    },
}

impl JudgeError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            JudgeError::NoPython { .. } => Some(
                "install python3 where every user can read it (for example /usr/bin), or name an interpreter; one \
                 below a folder that only root may enter cannot be used, because tests run as a user of their own"
                    .into(),
            ),
        }
    }
}

fn tried_list(tried: &[(PathBuf, String)]) -> String {
    if tried.is_empty() {
        return "nothing: no python3 found".into();
    }
    let lines: Vec<String> =
        tried.iter().map(|(path, what)| format!("{} ({what})", path.display())).collect();
    lines.join(", ")
}
