//! What the engine asks of a device: memory, copies, kernels, matrix products.
//!
//! [`crate::cuda::CudaDriver`] is the GPU. Tests bring another one that runs the same kernels on the processor, so that everything above
//! this trait is checked where no GPU is.

use crate::device::DeviceError;

/// How a number is stored on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    /// 32-bit floating point.
    F32,
    /// bfloat16: the upper half of an `f32`.
    Bf16,
    /// 32-bit unsigned integer.
    U32,
}

impl Number {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Number::F32 | Number::U32 => 4,
            Number::Bf16 => 2,
        }
    }
}

/// The type of weights and activations. Sums, gradients of parameters, moments and master weights are f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 throughout: slow, for comparisons.
    F32,
    /// bfloat16 weights and activations, products summed in f32.
    Bf16,
}

impl Precision {
    /// How a weight or an activation is stored.
    pub fn number(self) -> Number {
        match self {
            Precision::F32 => Number::F32,
            Precision::Bf16 => Number::Bf16,
        }
    }
}

impl From<crate::parameter::Precision> for Precision {
    fn from(precision: crate::parameter::Precision) -> Precision {
        match precision {
            crate::parameter::Precision::Float32 => Precision::F32,
            crate::parameter::Precision::Bfloat16 => Precision::Bf16,
        }
    }
}

/// An argument of a kernel.
#[derive(Debug)]
pub enum Argument<'a, B> {
    /// A pointer into a buffer, that many bytes from its start.
    Pointer(&'a B, usize),
    /// The null pointer, where a kernel takes one for "absent".
    Null,
    /// `unsigned int`.
    U32(u32),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
}

/// A matrix in a buffer, row by row.
#[derive(Debug)]
pub struct Matrix<'a, B> {
    /// Where it lies.
    pub buffer: &'a B,
    /// How its numbers are stored.
    pub number: Number,
    /// Numbers before its first one.
    pub offset: usize,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// Whether the product takes it transposed.
    pub transposed: bool,
}

/// `out [rows, columns] = alpha · left [rows, depth] · right [depth, columns] + beta · out`, summed in f32.
#[derive(Debug)]
pub struct Product<'a, B> {
    /// Rows of the result.
    pub rows: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Length of the sums.
    pub depth: usize,
    /// The left factor.
    pub left: Matrix<'a, B>,
    /// The right factor; its numbers are of the same type as the left one's.
    pub right: Matrix<'a, B>,
    /// The result, not transposed: f32, or the type of the factors.
    pub out: Matrix<'a, B>,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what the result holds before; with 0 it is not read.
    pub beta: f32,
}

/// A device, or something that behaves like one. Everything happens in the order of the calls.
pub trait Driver: Send + Sync + 'static {
    /// A piece of device memory, given back when dropped.
    type Buffer: Send + Sync;

    /// Memory with unspecified content.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, DeviceError>;

    /// Bytes of a buffer.
    fn size(&self, buffer: &Self::Buffer) -> usize;

    /// Sets bytes to zero.
    ///
    /// # Errors
    /// A range outside the buffer, or a failed call.
    fn clear(&self, target: &Self::Buffer, offset: usize, bytes: usize) -> Result<(), DeviceError>;

    /// Copies from the host.
    ///
    /// # Errors
    /// A range outside the buffer, or a failed call.
    fn upload(&self, bytes: &[u8], target: &Self::Buffer, offset: usize) -> Result<(), DeviceError>;

    /// Waits for everything before it, then copies to the host.
    ///
    /// # Errors
    /// A range outside the buffer, or a failed call, among them those before it whose failure shows only now.
    fn download(&self, source: &Self::Buffer, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Copies within the device; the ranges do not overlap.
    ///
    /// # Errors
    /// A range outside a buffer, or a failed call.
    fn copy(
        &self,
        source: (&Self::Buffer, usize),
        target: (&Self::Buffer, usize),
        bytes: usize,
    ) -> Result<(), DeviceError>;

    /// Starts a kernel of this crate: `grid` blocks of `block` threads, with `shared` bytes of dynamic shared memory.
    ///
    /// # Errors
    /// An unknown kernel or a refused launch.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in order and type, and the kernel stays within the buffers with them.
    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: u32,
        shared: u32,
        arguments: &[Argument<'_, Self::Buffer>],
    ) -> Result<(), DeviceError>;

    /// A matrix product.
    ///
    /// # Errors
    /// A failed call.
    ///
    /// # Safety
    /// The three matrices lie within their buffers, and the result overlaps neither factor.
    unsafe fn product(&self, product: &Product<'_, Self::Buffer>) -> Result<(), DeviceError>;

    /// Waits for everything before it.
    ///
    /// # Errors
    /// What failed meanwhile.
    fn synchronize(&self) -> Result<(), DeviceError>;

    /// Precision of the kernels that were compiled for this driver.
    fn precision(&self) -> Precision;

    /// Width of an attention head that the kernels were compiled for.
    fn head_width(&self) -> usize;
}
