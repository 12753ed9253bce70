//! What can go wrong on a device.

/// Why a device could not be used, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This program was built without the engine for GPUs.
    #[error("{device} was asked for, and this program was built for the processor alone")]
    NotBuilt {
        /// The device, as it was asked for.
        device: String,
    },
    /// There is no usable device: no driver, no GPU, or a library that is missing.
    #[error("no CUDA device: {reason}")]
    Absent {
        /// What was looked for and not found.
        reason: String,
    },
    /// A call into the driver or one of its libraries failed.
    #[error("{call} failed on the GPU: {message}")]
    Call {
        /// The call or kernel.
        call: String,
        /// What the library said.
        message: String,
    },
    /// The device's memory does not hold what was asked for.
    #[error("the GPU has no {bytes} bytes free ({free} of {total} are)")]
    OutOfMemory {
        /// What was asked for, in bytes.
        bytes: usize,
        /// Bytes free at that time.
        free: usize,
        /// Bytes of the device.
        total: usize,
    },
    /// A kernel does not compile for this device.
    #[error("the GPU kernels do not compile for {architecture}: {log}")]
    Compile {
        /// The architecture, such as `sm_90`.
        architecture: String,
        /// The compiler's words.
        log: String,
    },
    /// The model's sizes, or a request, do not fit what the kernels compute.
    #[error("{what}")]
    Unsupported {
        /// The size and what would be supported.
        what: String,
    },
    /// A request that contradicts itself or the model, such as a row out of range.
    #[error("{what}")]
    Input {
        /// What is wrong and what was expected.
        what: String,
    },
}

impl DeviceError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            DeviceError::NotBuilt { .. } => {
                "build it with `--features cuda`, or compute on the processor (`cpu`)".into()
            }
            DeviceError::Absent { .. } => {
                "`doctor` says which GPUs and libraries are found; `cpu` computes on the processor".into()
            }
            DeviceError::OutOfMemory { .. } => {
                "an adapter, gradient checkpointing, bfloat16, or fewer tokens or requests at a time take less".into()
            }
            DeviceError::Unsupported { .. } => "compute on the processor (`cpu`)".into(),
            DeviceError::Compile { .. } => {
                "use an NVRTC as new as the GPU (LD_LIBRARY_PATH), or compute on the processor (`cpu`)".into()
            }
            DeviceError::Call { .. } | DeviceError::Input { .. } => return None,
        })
    }

    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a device contradicts a request"))]
    pub(crate) fn input(what: impl Into<String>) -> DeviceError {
        DeviceError::Input { what: what.into() }
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn call(call: impl Into<String>, message: impl std::fmt::Display) -> DeviceError {
        DeviceError::Call { call: call.into(), message: message.to_string() }
    }
}
