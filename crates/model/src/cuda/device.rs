//! The GPU: driver calls and cuBLAS through `cudarc`, which loads the libraries when they are first called.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;

use cudarc::cublas::{result as blas, sys as blas_sys};
use cudarc::driver::{result as cuda, sys};

use super::compile;
use super::driver::{Argument, Driver, Matrix, Number, Precision, Product};
use super::source;
use crate::device::{DeviceError, DeviceInfo};

/// A GPU with the kernels compiled for it.
pub struct CudaDriver {
    device: Arc<Device>,
    functions: HashMap<&'static str, sys::CUfunction>,
    precision: Precision,
    head_width: usize,
}

/// Context, stream and cuBLAS handle; lives as long as any memory on it.
struct Device {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    handle: blas_sys::cublasHandle_t,
    /// Whether memory is allocated in the order of the stream, from the driver's pool.
    pooled: bool,
    /// Whether the device reads the host's memory by itself, so that an upload may return before it has been read.
    reads_host: bool,
}

// SAFETY: the driver's functions may be called from any thread once the context is current there, which `bind` sees to; the
// stream and the handle are made once and used by calls that the libraries document as thread-safe.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}
// SAFETY: beside the device, functions are handles that stay valid while the context does.
unsafe impl Send for CudaDriver {}
// SAFETY: as above.
unsafe impl Sync for CudaDriver {}

/// Memory on the GPU.
pub struct DeviceMemory {
    device: Arc<Device>,
    address: sys::CUdeviceptr,
    bytes: usize,
}

fn failed(call: &'static str) -> impl Fn(cuda::DriverError) -> DeviceError {
    move |error| {
        let text =
            error.error_string().map_or_else(|_| format!("{error:?}"), |text| text.to_string_lossy().into());
        DeviceError::call(call, text)
    }
}

fn absent(reason: impl Into<String>) -> DeviceError {
    DeviceError::Absent { reason: reason.into() }
}

impl Device {
    /// Makes sure that the libraries are there; gives the number of devices.
    fn count() -> Result<usize, DeviceError> {
        // SAFETY: loading the libraries runs their initialisers only, as with any CUDA program.
        let (driver, library) = unsafe { (sys::is_culib_present(), blas_sys::is_culib_present()) };
        if !driver {
            return Err(absent("the driver (libcuda.so.1) is not installed"));
        }
        if !library {
            return Err(absent("cuBLAS (libcublas.so) was not found; LD_LIBRARY_PATH must name its folder"));
        }
        let none = |error: cuda::DriverError| absent(failed("cuInit")(error).to_string());
        cuda::init().map_err(none)?;
        Ok(usize::try_from(cuda::device::get_count().map_err(none)?).unwrap_or(0))
    }

    fn open(ordinal: usize) -> Result<Device, DeviceError> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(absent(format!("device {ordinal} was asked for, the driver sees {count}")));
        }
        // It is below a number that came as a `c_int`.
        let ordinal = ordinal as c_int;
        let device = cuda::device::get(ordinal).map_err(failed("cuDeviceGet"))?;
        // SAFETY: the device was just returned by the driver; every handle below is made here, checked, and destroyed once,
        // in `drop`.
        unsafe {
            let context = cuda::primary_ctx::retain(device).map_err(failed("cuDevicePrimaryCtxRetain"))?;
            let mut found = Device {
                device,
                context,
                stream: std::ptr::null_mut(),
                handle: std::ptr::null_mut(),
                pooled: false,
                reads_host: false,
            };
            found.bind()?;
            let flag = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
            sys::cuStreamCreate(&mut found.stream, flag).result().map_err(failed("cuStreamCreate"))?;
            found.handle = blas::create_handle().map_err(|error| DeviceError::call("cublasCreate", error))?;
            blas::set_stream(found.handle, found.stream.cast())
                .map_err(|error| DeviceError::call("cublasSetStream", error))?;
            // Sums that are split stay in f32.
            let mode = blas_sys::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
            blas_sys::cublasSetMathMode(found.handle, mode)
                .result()
                .map_err(|error| DeviceError::call("cublasSetMathMode", error))?;
            let reads = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS;
            found.reads_host = found.attribute(reads)? != 0;
            let pools = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
            found.pooled = cuda::device::get_attribute(device, pools).is_ok_and(|value| value > 0);
            if found.pooled {
                // The pool keeps what is freed; otherwise each synchronisation would give it back to the system.
                let pool = cuda::device::get_default_mem_pool(device)
                    .map_err(failed("cuDeviceGetDefaultMemPool"))?;
                let mut threshold = u64::MAX;
                cuda::mem_pool::set_attribute(
                    pool,
                    sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                    std::ptr::from_mut(&mut threshold).cast(),
                )
                .map_err(failed("cuMemPoolSetAttribute"))?;
            }
            Ok(found)
        }
    }

    /// Makes the context current on this thread.
    fn bind(&self) -> Result<(), DeviceError> {
        // SAFETY: the context is retained until `drop`.
        unsafe { cuda::ctx::set_current(self.context) }.map_err(failed("cuCtxSetCurrent"))
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<i32, DeviceError> {
        // SAFETY: the device was returned by the driver.
        unsafe { cuda::device::get_attribute(self.device, attribute) }.map_err(failed("cuDeviceGetAttribute"))
    }

    /// The capability, if the kernels run on it.
    fn new_enough(&self) -> Result<(i32, i32), DeviceError> {
        let (major, minor) = self.capability()?;
        if major < 8 {
            return Err(absent(format!(
                "compute capability {major}.{minor}; the kernels need 8.0 (Ampere) or later"
            )));
        }
        Ok((major, minor))
    }

    fn info(&self) -> Result<DeviceInfo, DeviceError> {
        self.bind()?;
        let (free, total) = cuda::mem_get_info().map_err(failed("cuMemGetInfo"))?;
        let name = cuda::device::get_name(self.device).map_err(failed("cuDeviceGetName"))?;
        Ok(DeviceInfo { name, capability: self.capability()?, free, total })
    }

    fn capability(&self) -> Result<(i32, i32), DeviceError> {
        use sys::CUdevice_attribute as Of;
        Ok((
            self.attribute(Of::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            self.attribute(Of::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Errors are of no use here: nothing of the device is used any more.
        let _ = self.bind();
        // SAFETY: each handle is destroyed once, after all work on the stream; memory on it holds the device alive.
        unsafe {
            if !self.handle.is_null() {
                let _ = blas::destroy_handle(self.handle);
            }
            if !self.stream.is_null() {
                let _ = sys::cuStreamSynchronize(self.stream);
                let _ = sys::cuStreamDestroy_v2(self.stream);
            }
            let _ = cuda::primary_ctx::release(self.device);
        }
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let _ = self.device.bind();
        // SAFETY: the address came from the same kind of allocation and is freed once. In the pool the freeing waits its turn in
        // the stream; without one the driver itself waits for the device.
        let _ = unsafe {
            if self.device.pooled {
                cuda::free_async(self.address, self.device.stream)
            } else {
                cuda::free_sync(self.address)
            }
        };
    }
}

impl DeviceMemory {
    fn at(&self, offset: usize, bytes: usize) -> Result<sys::CUdeviceptr, DeviceError> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(DeviceError::input(format!(
                "{offset} + {bytes} of {} bytes on the device",
                self.bytes
            )));
        }
        Ok(self.address + offset as u64)
    }
}

impl CudaDriver {
    /// Opens device number `ordinal` and compiles the kernels for it.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with the reason where there is no driver, no such device, or no cuBLAS or NVRTC;
    /// [`DeviceError::Compile`]; failed calls.
    pub fn new(ordinal: usize, precision: Precision, head_width: usize) -> Result<CudaDriver, DeviceError> {
        let device = Device::open(ordinal)?;
        let (major, minor) = device.new_enough()?;
        let image = compile::for_device(precision, head_width, (major * 10 + minor) as u32)?;
        let limit = device
            .attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let mut functions = HashMap::new();
        // SAFETY: the image is what the compiler made, ended by a zero where it is text; functions belong to the module, which
        // stays loaded as long as the context.
        unsafe {
            let module =
                cuda::module::load_data(image.as_ptr().cast()).map_err(failed("cuModuleLoadData"))?;
            for name in source::names() {
                let symbol = CString::new(name).map_err(|error| DeviceError::call(name, error))?;
                let function =
                    cuda::module::get_function(module, symbol).map_err(failed("cuModuleGetFunction"))?;
                use sys::CUfunction_attribute as Of;
                let fixed =
                    cuda::function::get_function_attribute(function, Of::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
                        .map_err(failed("cuFuncGetAttribute"))?;
                let most = Of::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                cuda::function::set_function_attribute(function, most, limit - fixed)
                    .map_err(failed("cuFuncSetAttribute"))?;
                functions.insert(name, function);
            }
        }
        Ok(CudaDriver { device: Arc::new(device), functions, precision, head_width })
    }

    /// Name, capability and memory of the device.
    ///
    /// # Errors
    /// Failed calls.
    pub fn info(&self) -> Result<DeviceInfo, DeviceError> {
        self.device.info()
    }

    /// What device number `ordinal` is, once it is known that all the engine needs is there; no kernel is compiled for that.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with the reason; failed calls.
    pub fn find(ordinal: usize) -> Result<DeviceInfo, DeviceError> {
        let device = Device::open(ordinal)?;
        device.new_enough()?;
        compile::architectures()?;
        device.info()
    }

    /// Every device that the driver sees, whether or not the kernels run on it.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with the reason where there is none; failed calls.
    pub fn list() -> Result<Vec<DeviceInfo>, DeviceError> {
        let count = Device::count()?;
        if count == 0 {
            return Err(absent("the driver sees none"));
        }
        (0..count).map(|ordinal| Device::open(ordinal)?.info()).collect()
    }
}

/// Leading dimension, pointer and type of a factor, as cuBLAS sees it: column by column, so that a matrix stored row by row is its
/// transpose, and "transposed" turns it back.
fn factor(matrix: &Matrix<'_, DeviceMemory>) -> (sys::CUdeviceptr, c_int, blas_sys::cublasOperation_t) {
    use blas_sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
    let address = matrix.buffer.address + (matrix.offset * matrix.number.bytes()) as u64;
    (address, matrix.stride as c_int, if matrix.transposed { CUBLAS_OP_T } else { CUBLAS_OP_N })
}

fn data_type(number: Number) -> blas_sys::cudaDataType {
    match number {
        Number::F32 => blas_sys::cudaDataType::CUDA_R_32F,
        Number::Bf16 => blas_sys::cudaDataType::CUDA_R_16BF,
        Number::U32 => blas_sys::cudaDataType::CUDA_R_32U,
    }
}

impl Driver for CudaDriver {
    type Buffer = DeviceMemory;

    fn allocate(&self, bytes: usize) -> Result<DeviceMemory, DeviceError> {
        self.device.bind()?;
        // SAFETY: the memory is given to `DeviceMemory`, which frees it once.
        let address = unsafe {
            if self.device.pooled {
                cuda::malloc_async(self.device.stream, bytes)
            } else {
                cuda::malloc_sync(bytes)
            }
        };
        match address {
            Ok(address) => Ok(DeviceMemory { device: self.device.clone(), address, bytes }),
            Err(cuda::DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let (free, total) = cuda::mem_get_info().map_err(failed("cuMemGetInfo"))?;
                Err(DeviceError::OutOfMemory { bytes, free, total })
            }
            Err(error) => Err(failed("cuMemAllocAsync")(error)),
        }
    }

    fn size(&self, buffer: &DeviceMemory) -> usize {
        buffer.bytes
    }

    fn clear(&self, target: &DeviceMemory, offset: usize, bytes: usize) -> Result<(), DeviceError> {
        self.device.bind()?;
        let address = target.at(offset, bytes)?;
        // SAFETY: `at` checked the range.
        unsafe { cuda::memset_d8_async(address, 0, bytes, self.device.stream) }
            .map_err(failed("cuMemsetD8Async"))
    }

    fn upload(&self, bytes: &[u8], target: &DeviceMemory, offset: usize) -> Result<(), DeviceError> {
        self.device.bind()?;
        let address = target.at(offset, bytes.len())?;
        // SAFETY: `at` checked the range. The host's memory is pageable: the call returns once it has been copied for the device,
        // or else it is waited for.
        unsafe { cuda::memcpy_htod_async(address, bytes, self.device.stream) }
            .map_err(failed("cuMemcpyHtoDAsync"))?;
        if self.device.reads_host { self.synchronize() } else { Ok(()) }
    }

    fn download(&self, source: &DeviceMemory, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.device.bind()?;
        let address = source.at(offset, bytes.len())?;
        // SAFETY: `at` checked the range; `bytes` is borrowed until the stream has been waited for.
        unsafe { cuda::memcpy_dtoh_async(bytes, address, self.device.stream) }
            .map_err(failed("cuMemcpyDtoHAsync"))?;
        self.synchronize()
    }

    fn copy(
        &self,
        source: (&DeviceMemory, usize),
        target: (&DeviceMemory, usize),
        bytes: usize,
    ) -> Result<(), DeviceError> {
        self.device.bind()?;
        let (from, to) = (source.0.at(source.1, bytes)?, target.0.at(target.1, bytes)?);
        // SAFETY: `at` checked both ranges.
        unsafe { cuda::memcpy_dtod_async(to, from, bytes, self.device.stream) }
            .map_err(failed("cuMemcpyDtoDAsync"))
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        arguments: &[Argument<'_, DeviceMemory>],
    ) -> Result<(), DeviceError> {
        self.device.bind()?;
        let function = *self
            .functions
            .get(kernel)
            .ok_or_else(|| DeviceError::call(kernel, "there is no such kernel"))?;
        // Each argument in eight bytes; the driver reads as many of them as the parameter has.
        let mut values: Vec<u64> = arguments
            .iter()
            .map(|argument| match argument {
                Argument::Pointer(buffer, offset) => buffer.address + *offset as u64,
                Argument::Null => 0,
                Argument::U32(value) => u64::from(*value),
                Argument::U64(value) => *value,
                Argument::F32(value) => u64::from(value.to_bits()),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast::<c_void>()).collect();
        // SAFETY: by the contract of this function the arguments are the kernel's; they are copied before the call returns.
        unsafe {
            cuda::launch_kernel(
                function,
                (grid[0], grid[1], grid[2]),
                (block, 1, 1),
                shared,
                self.device.stream,
                &mut pointers,
            )
        }
        .map_err(failed(kernel))
    }

    unsafe fn product(&self, product: &Product<'_, DeviceMemory>) -> Result<(), DeviceError> {
        self.device.bind()?;
        // Row by row, C = A · B is Cᵀ = Bᵀ · Aᵀ column by column.
        let (left, left_stride, left_operation) = factor(&product.left);
        let (right, right_stride, right_operation) = factor(&product.right);
        let (out, out_stride, _) = factor(&product.out);
        // SAFETY: by the contract of this function the matrices lie within their buffers; the two factors are read from the host
        // before the call returns.
        unsafe {
            blas::gemm_ex(
                self.device.handle,
                right_operation,
                left_operation,
                product.columns as c_int,
                product.rows as c_int,
                product.depth as c_int,
                std::ptr::from_ref(&product.alpha).cast(),
                right as *const c_void,
                data_type(product.right.number),
                right_stride,
                left as *const c_void,
                data_type(product.left.number),
                left_stride,
                std::ptr::from_ref(&product.beta).cast(),
                out as *mut c_void,
                data_type(product.out.number),
                out_stride,
                blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| DeviceError::call("cublasGemmEx", error))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.device.bind()?;
        // SAFETY: the stream lives as long as the device.
        unsafe { sys::cuStreamSynchronize(self.device.stream) }
            .result()
            .map_err(failed("cuStreamSynchronize"))
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn head_width(&self) -> usize {
        self.head_width
    }
}
