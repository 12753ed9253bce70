//! The nodes that a forward pass leaves on candle's tape: two a layer, and one each for embedding, final norm and score.
//!
//! A candle operation has at most three inputs, a block of a layer has up to eight parameters. [`tie`] therefore threads
//! the parameters of a block onto one number that the block takes as its second input. The block's backward pass leaves the
//! gradients of its parameters in a shared tray, and the tape, which always visits the thread after the block, takes them out.

pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod feed_forward;
pub(crate) mod norm;
pub(crate) mod score;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Error, Layout, Result, Shape, Storage, Tensor};

/// The contiguous numbers of an operation's input.
pub(crate) fn input<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    operation: &'static str,
) -> Result<&'a [f32]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| Error::RequiresContiguous { op: operation }.bt())?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Gives `read` the contiguous numbers of a CPU tensor.
pub(crate) fn with_numbers<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(input(storage, layout, "read")?),
        _ => Err(Error::Msg("this engine computes on the CPU; move the tensor there first".into()).bt()),
    }
}

/// A copy of a tensor's numbers.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    with_numbers(tensor, |numbers| Ok(numbers.to_vec()))
}

/// A tensor on the CPU from its numbers.
pub(crate) fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &Device::Cpu)
}

/// Where a block leaves the gradients of its parameters for the tape to find.
#[derive(Clone, Default)]
pub(crate) struct Tray(Arc<Mutex<Vec<Option<Tensor>>>>);

impl Tray {
    /// Lays down one gradient a parameter.
    pub(crate) fn put(&self, gradients: Vec<Tensor>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gradients.into_iter().map(Some).collect();
    }

    fn take(&self, index: usize) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index).and_then(Option::take)
    }
}

/// One number that depends on all `parameters` as far as the tape knows; their gradients come out of `tray`.
pub(crate) fn tie(parameters: &[&Tensor], tray: &Tray) -> Result<Tensor> {
    let mut thread: Option<Tensor> = None;
    for (index, parameter) in parameters.iter().enumerate() {
        let knot = Knot { index, tray: tray.clone() };
        thread = Some(match thread {
            None => parameter.apply_op1(knot)?,
            Some(thread) => thread.apply_op2(parameter, knot)?,
        });
    }
    thread.ok_or_else(|| Error::Msg("a block without parameters".into()).bt())
}

struct Knot {
    index: usize,
    tray: Tray,
}

impl CustomOp1 for Knot {
    fn name(&self) -> &'static str {
        "first parameter of a block"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.tray.take(self.index))
    }
}

impl CustomOp2 for Knot {
    fn name(&self) -> &'static str {
        "parameter of a block"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)))
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.clone()), self.tray.take(self.index)))
    }
}
