//! The arithmetic, on plain `f32` slices: nothing here knows tensors or the tape.

pub(crate) mod attention;
pub(crate) mod buffer;
pub(crate) mod cache;
pub(crate) mod decoding;
pub(crate) mod head;
pub(crate) mod matmul;
pub(crate) mod operand;
pub(crate) mod rows;
pub(crate) mod simd;

#[cfg(test)]
mod tests;

pub use matmul::matrix_product;
