//! Which device, and what is found of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DeviceError, DeviceModel, Tensors};
use crate::config::Config;
use crate::parameter::Precision;

/// Where a model is computed: `cpu`, `cuda` (the first GPU) or `cuda:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
    /// The kernels of the GPU run on the processor: slow, for tests.
    #[cfg(feature = "emulator")]
    Emulator,
}

/// Where a model's numbers lie, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placement {
    /// The device.
    pub device: Device,
    /// The type of the weights, on a GPU of the activations as well. On the processor weights in bfloat16 cannot be trained; on a
    /// GPU those that are trained have float32 copies beside them.
    pub precision: Precision,
    /// Whether the weights stay as they are: an adapter may be trained on them, and no memory is taken to train them all. On the
    /// processor nothing has to be taken beforehand, and this has no effect.
    pub frozen: bool,
}

/// What was found of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Its name, such as `NVIDIA H200`.
    pub name: String,
    /// Compute capability, such as `(9, 0)`.
    pub capability: (i32, i32),
    /// Bytes free now.
    pub free: usize,
    /// Bytes in all.
    pub total: usize,
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => formatter.write_str("cpu"),
            Device::Cuda(ordinal) => write!(formatter, "cuda:{ordinal}"),
            #[cfg(feature = "emulator")]
            Device::Emulator => formatter.write_str("emulator"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        match text {
            "cpu" => return Ok(Device::Cpu),
            "cuda" => return Ok(Device::Cuda(0)),
            #[cfg(feature = "emulator")]
            "emulator" => return Ok(Device::Emulator),
            _ => {}
        }
        let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        number.map(Device::Cuda).ok_or_else(|| format!("`{text}` is no device: cpu, cuda or cuda:N"))
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Device, String> {
        text.parse()
    }
}

impl Device {
    /// Whether this is the processor itself.
    pub fn is_cpu(self) -> bool {
        self == Device::Cpu
    }

    /// Makes sure that the device can be used, and says what it is; nothing for the processor.
    ///
    /// # Errors
    /// [`DeviceError::NotBuilt`]; [`DeviceError::Absent`] with what is missing.
    pub fn find(self) -> Result<Option<DeviceInfo>, DeviceError> {
        match self {
            Device::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => crate::cuda::CudaDriver::find(ordinal).map(Some),
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(DeviceError::NotBuilt { device: self.to_string() }),
            #[cfg(feature = "emulator")]
            Device::Emulator => Ok(None),
        }
    }

    /// Every GPU that the driver sees, in its order.
    ///
    /// # Errors
    /// Those of [`Device::find`].
    pub fn gpus() -> Result<Vec<DeviceInfo>, DeviceError> {
        #[cfg(feature = "cuda")]
        return crate::cuda::CudaDriver::list();
        #[cfg(not(feature = "cuda"))]
        Err(DeviceError::NotBuilt { device: Device::Cuda(0).to_string() })
    }
}

/// Puts a decoder onto a device.
///
/// # Errors
/// Those of [`Device::find`]; sizes that its kernels do not compute; memory that does not suffice; what `tensors` says.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables, reason = "there is no device to put it on"))]
pub(crate) fn open(
    placement: Placement,
    config: &Config,
    tensors: Tensors<'_>,
) -> Result<Arc<dyn DeviceModel>, DeviceError> {
    match placement.device {
        Device::Cpu => Err(DeviceError::Input { what: "the processor is no device to copy to".into() }),
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => crate::cuda::place_on_gpu(ordinal, placement, config, tensors),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(DeviceError::NotBuilt { device: placement.device.to_string() }),
        #[cfg(feature = "emulator")]
        Device::Emulator => crate::cuda::place_on_emulator(placement, config, tensors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written_as_words() {
        for (text, device, again) in [
            ("cpu", Device::Cpu, "cpu"),
            ("cuda", Device::Cuda(0), "cuda:0"),
            ("cuda:3", Device::Cuda(3), "cuda:3"),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), again);
            assert_eq!(serde_json::from_value::<Device>(text.into()).expect("a word"), device);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "CPU", "cuda:x"] {
            assert!(text.parse::<Device>().expect_err("no device").contains("cuda:N"), "{text}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_program_without_the_engine_says_so() {
        let error = Device::Cuda(0).find().expect_err("not built");
        assert!(matches!(error, DeviceError::NotBuilt { .. }) && error.hint().is_some(), "{error}");
    }
}
