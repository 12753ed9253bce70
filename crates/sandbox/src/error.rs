//! Why there is no sandbox.

use std::io;
use std::path::PathBuf;

use crate::Capabilities;

/// Why a [`Sandbox`](crate::Sandbox) could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel lacks landlock or seccomp, or they are switched off.
    #[error("this machine cannot protect itself from untrusted code: {}", .capabilities.missing().join("; "))]
    Unprotected {
        /// What is there and what is not.
        capabilities: Capabilities,
    },
    /// A filter could not be compiled for this processor.
    #[error("no system-call filter for this machine: {source}")]
    Filter {
        /// The compiler's complaint.
        source: seccompiler::BackendError,
    },
    /// No folder in which private folders can be made.
    #[error("cannot use {} for private folders: {source}", .path.display())]
    Folder {
        /// The folder that was tried last.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The namespace without a network could not be made.
    #[error("cannot make a network namespace: {source}")]
    Network {
        /// What went wrong.
        source: io::Error,
    },
    /// An interpreter cannot be kept warm.
    #[error("cannot keep {} warm: {why}", .interpreter.display())]
    Warm {
        /// The interpreter.
        interpreter: PathBuf,
        /// What went wrong.
        why: String,
    },
}

impl SandboxError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            SandboxError::Unprotected { .. } => Some(
                "run on Linux 5.13 or later with landlock enabled (boot parameter lsm=landlock,...; containers need a \
                 seccomp profile that lets landlock_* pass), or inside a throw-away virtual machine allow unprotected \
                 runs explicitly"
                    .into(),
            ),
            SandboxError::Filter { .. } => Some("x86_64 and aarch64 are supported".into()),
            SandboxError::Folder { .. } => {
                Some("set TMPDIR to a folder that this user may write and execute files in".into())
            }
            SandboxError::Network { .. } => None,
            SandboxError::Warm { .. } => {
                Some("install a Python 3.6 or later with the module ctypes, or start each run cold".into())
            }
        }
    }
}
