//! NVRTC: the kernels' source to machine code for one architecture, on any machine that has the library.

use std::ffi::{CString, c_char};

use cudarc::nvrtc::{result as nvrtc, sys};

use super::driver::Precision;
use super::source;
use crate::device::DeviceError;

/// Architectures that the library at hand compiles for, such as 80 and 90.
///
/// # Errors
/// [`DeviceError::Absent`] where there is no library.
pub(crate) fn architectures() -> Result<Vec<u32>, DeviceError> {
    // SAFETY: loading the library runs its initialisers only.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::Absent {
            reason: "NVRTC (libnvrtc.so) was not found; LD_LIBRARY_PATH must name its folder".into(),
        });
    }
    let mut count = 0;
    // SAFETY: the library writes one number.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }
        .result()
        .map_err(|error| DeviceError::call("nvrtcGetNumSupportedArchs", error))?;
    let mut list = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the list is as long as the library said.
    unsafe { sys::nvrtcGetSupportedArchs(list.as_mut_ptr()) }
        .result()
        .map_err(|error| DeviceError::call("nvrtcGetSupportedArchs", error))?;
    Ok(list.into_iter().filter_map(|architecture| u32::try_from(architecture).ok()).collect())
}

/// The kernels for a device of this capability (90 is 9.0): machine code, or, where the library is older than the device, the text
/// that the driver finishes.
pub(crate) fn for_device(
    precision: Precision,
    head_width: usize,
    capability: u32,
) -> Result<Vec<u8>, DeviceError> {
    let known = architectures()?;
    if known.contains(&capability) {
        return compile(precision, head_width, &format!("sm_{capability}"));
    }
    match known.into_iter().filter(|&architecture| architecture < capability).max() {
        Some(older) => compile(precision, head_width, &format!("compute_{older}")),
        None => Err(DeviceError::Unsupported {
            what: format!("this NVRTC compiles for nothing as old as compute capability {capability}"),
        }),
    }
}

/// The kernels for `sm_…` (machine code) or `compute_…` (PTX, ended by a zero).
pub(crate) fn compile(
    precision: Precision,
    head_width: usize,
    architecture: &str,
) -> Result<Vec<u8>, DeviceError> {
    let failed = |log: String| DeviceError::Compile { architecture: architecture.into(), log };
    let text = CString::new(source::SOURCE).map_err(|error| failed(error.to_string()))?;
    let program =
        nvrtc::create_program(&text, Some(c"vul2safe.cu")).map_err(|error| failed(error.to_string()))?;
    let mut options = vec![
        format!("--gpu-architecture={architecture}"),
        format!("-DHEAD={head_width}"),
        "--std=c++17".into(),
    ];
    if precision == Precision::Bf16 {
        options.push("-DBF16".into());
    }
    // SAFETY: the program was just made, and is destroyed once, at the end; sizes come from the library itself.
    unsafe {
        let outcome = match nvrtc::compile_program(program, &options) {
            Ok(()) => {
                image(program, architecture.starts_with("sm_")).map_err(|error| failed(error.to_string()))
            }
            Err(error) => {
                let log = nvrtc::get_program_log(program).unwrap_or_default();
                let log: Vec<u8> = log.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
                Err(failed(format!("{error}: {}", String::from_utf8_lossy(&log))))
            }
        };
        let _ = nvrtc::destroy_program(program);
        outcome
    }
}

/// # Safety
/// The program has been compiled, for a real architecture where `machine` is true.
unsafe fn image(program: sys::nvrtcProgram, machine: bool) -> Result<Vec<u8>, nvrtc::NvrtcError> {
    // SAFETY: by the contract above; the buffer is as long as the library says.
    unsafe {
        if !machine {
            return Ok(nvrtc::get_ptx(program)?.into_iter().map(|byte| byte as u8).collect());
        }
        let mut size = 0;
        sys::nvrtcGetCUBINSize(program, &mut size).result()?;
        let mut image = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast::<c_char>()).result()?;
        Ok(image)
    }
}
