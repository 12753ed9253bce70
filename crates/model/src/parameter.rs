//! Weights: the numbers themselves, and the gradients that backward passes add to them.
//!
//! A trainable weight is a [`Parameter`]: f32 numbers in a candle variable, and a gradient beside it into which every backward
//! pass adds in place. Gradients therefore need no sum over micro-batches, no copy for tied matrices, and no place on the tape.
//! A frozen weight may be kept in bf16 instead, at half the memory; it is widened to f32 where it is used.

use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Shape, Storage, Tensor, Var};
use half::bf16;

use crate::error::ModelError;
use crate::kernels::buffer::Buffer;

/// A trainable tensor with its gradient. Cloning it gives another handle on the same numbers.
#[derive(Clone, Debug)]
pub struct Parameter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    value: Var,
    gradient: Mutex<Gradient>,
}

/// The numbers stay allocated from step to step; `filled` says whether they mean anything.
#[derive(Debug, Default)]
struct Gradient {
    numbers: Vec<f32>,
    filled: bool,
}

impl Parameter {
    /// A parameter of these f32 numbers.
    ///
    /// # Errors
    /// A shape that does not fit the numbers.
    pub fn new(
        name: impl Into<String>,
        values: Vec<f32>,
        shape: impl Into<Shape>,
    ) -> Result<Parameter, ModelError> {
        let value = Var::from_tensor(&Tensor::from_vec(values, shape.into(), &Device::Cpu)?)?;
        Ok(Parameter(Arc::new(Inner { name: name.into(), value, gradient: Mutex::default() })))
    }

    /// Its name in the Hugging Face layout.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        self.0.value.dims()
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.0.value.elem_count()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.value.rank()
    }

    /// The variable, for operations on candle's tape.
    pub fn value(&self) -> &Var {
        &self.0.value
    }

    /// A copy of the numbers.
    pub fn numbers(&self) -> Vec<f32> {
        self.read().to_vec()
    }

    /// The numbers in place; nothing may write them meanwhile.
    pub fn read(&self) -> Numbers<'_> {
        Numbers::of_f32(&self.0.value)
    }

    /// Overwrites the numbers.
    ///
    /// # Errors
    /// Another count of numbers than the parameter has.
    pub fn set(&self, values: &[f32]) -> Result<(), ModelError> {
        if values.len() != self.count() {
            return Err(ModelError::input(format!(
                "{} numbers for parameter {} of shape {:?}",
                values.len(),
                self.name(),
                self.shape()
            )));
        }
        self.update(|numbers, _| numbers.copy_from_slice(values))
    }

    /// Gives `work` the numbers to write, and the gradient if there is one.
    ///
    /// # Errors
    /// Only what candle reports of its own storage.
    pub fn update<T>(&self, work: impl FnOnce(&mut [f32], Option<&[f32]>) -> T) -> Result<T, ModelError> {
        let gradient = self.lock();
        let operation = InPlace {
            work: Mutex::new(Some(work)),
            gradient: gradient.filled.then_some(gradient.numbers.as_slice()),
            result: Mutex::new(None),
        };
        self.0.value.inplace_op1(&operation)?;
        let result = operation.result.into_inner().unwrap_or_else(PoisonError::into_inner);
        result.ok_or_else(|| ModelError::input(format!("parameter {} could not be written", self.name())))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Gradient> {
        self.0.gradient.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the gradient; `None` if no backward pass has reached the parameter since it was cleared.
    pub fn gradient(&self) -> Option<Vec<f32>> {
        self.with_gradient(|gradient| gradient.map(<[f32]>::to_vec))
    }

    /// Gives `read` the gradient, if there is one.
    pub fn with_gradient<T>(&self, read: impl FnOnce(Option<&[f32]>) -> T) -> T {
        let gradient = self.lock();
        read(gradient.filled.then_some(gradient.numbers.as_slice()))
    }

    /// Forgets the gradient; its memory is kept for the next one.
    pub fn clear_gradient(&self) {
        self.lock().filled = false;
    }

    /// Forgets the gradient and gives its memory back.
    pub fn release_gradient(&self) {
        *self.lock() = Gradient::default();
    }

    /// Takes this parameter's gradient, if any, out of what candle's tape found for [`Parameter::value`], and adds it.
    ///
    /// # Errors
    /// A gradient that is not f32 on the CPU.
    pub fn take_from(&self, store: &mut GradStore) -> Result<(), ModelError> {
        let Some(found) = store.remove(&self.0.value) else { return Ok(()) };
        let found = found.contiguous()?;
        let found = Numbers::of_f32(&found);
        self.accumulate(|gradient, add| {
            if add {
                for (gradient, found) in gradient.iter_mut().zip(found.iter()) {
                    *gradient += found;
                }
            } else {
                gradient.copy_from_slice(&found);
            }
        });
        Ok(())
    }

    /// Gives `work` the gradient's numbers, to be added to (`true`) or written in full (`false`).
    ///
    /// The numbers are taken out while `work` runs, so that parallel work in it may not come upon a held lock.
    pub(crate) fn accumulate(&self, work: impl FnOnce(&mut [f32], bool)) {
        let Gradient { mut numbers, filled } = std::mem::take(&mut *self.lock());
        if numbers.is_empty() {
            numbers = vec![0.0; self.count()];
        }
        work(&mut numbers, filled);
        *self.lock() = Gradient { numbers, filled: true };
    }
}

/// Work on the numbers of a variable, as candle lets one do it.
struct InPlace<'a, T, F> {
    work: Mutex<Option<F>>,
    gradient: Option<&'a [f32]>,
    result: Mutex<Option<T>>,
}

impl<T, F: FnOnce(&mut [f32], Option<&[f32]>) -> T> InplaceOp1 for InPlace<'_, T, F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (start, end) = layout
            .contiguous_offsets()
            .ok_or_else(|| candle_core::Error::RequiresContiguous { op: "update" }.bt())?;
        let CpuStorage::F32(numbers) = storage else {
            return Err(candle_core::Error::Msg("a parameter holds f32".into()).bt());
        };
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            let result = work(&mut numbers[start..end], self.gradient);
            *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
        Ok(())
    }
}

/// Numbers of a weight as f32: in place, or widened for the time being.
pub enum Numbers<'a> {
    /// The weight's own storage.
    Place {
        /// The storage, read-locked.
        guard: Box<dyn Deref<Target = Storage> + Sync + 'a>,
        /// Where in it the weight lies.
        range: Range<usize>,
    },
    /// A copy widened from bf16.
    Widened(Widened),
    /// A copy from a device.
    Copied(Vec<f32>),
}

/// Numbers widened from bf16 into a scratch slice.
pub struct Widened(Buffer);

impl<'a> Numbers<'a> {
    /// The numbers of a contiguous f32 tensor on the CPU.
    fn of_f32(tensor: &'a Tensor) -> Numbers<'a> {
        let (guard, layout) = tensor.storage_and_layout();
        let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        Numbers::Place { guard: Box::new(guard), range }
    }
}

impl Deref for Numbers<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Numbers::Place { guard, range } => match &***guard {
                Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[range.clone()],
                // Parameters and gradients are f32 on the CPU from their creation; nothing else is ever wrapped here.
                _ => &[],
            },
            Numbers::Widened(Widened(buffer)) => buffer,
            Numbers::Copied(numbers) => numbers,
        }
    }
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Four bytes a number.
    #[default]
    Float32,
    /// Two bytes a number: the upper half of a float32. For frozen weights, and for files.
    Bfloat16,
}

impl Precision {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Precision::Float32 => 4,
            Precision::Bfloat16 => 2,
        }
    }
}

/// A weight of the model: trainable, or frozen in fewer bits.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    Float32(Parameter),
    Bfloat16(Arc<Halves>),
}

#[derive(Debug)]
pub(crate) struct Halves {
    name: String,
    shape: Vec<usize>,
    numbers: Vec<bf16>,
}

impl Halves {
    pub(crate) fn numbers(&self) -> &[bf16] {
        &self.numbers
    }
}

impl Weight {
    pub(crate) fn new(
        name: &str,
        values: Vec<f32>,
        shape: &[usize],
        precision: Precision,
    ) -> Result<Weight, ModelError> {
        Ok(match precision {
            Precision::Float32 => Weight::Float32(Parameter::new(name, values, shape.to_vec())?),
            Precision::Bfloat16 => Weight::Bfloat16(Arc::new(Halves {
                name: name.into(),
                shape: shape.to_vec(),
                numbers: values.into_iter().map(bf16::from_f32).collect(),
            })),
        })
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Weight::Float32(parameter) => parameter.name(),
            Weight::Bfloat16(halves) => &halves.name,
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Weight::Float32(parameter) => parameter.shape(),
            Weight::Bfloat16(halves) => &halves.shape,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.shape().iter().product()
    }

    pub(crate) fn precision(&self) -> Precision {
        match self {
            Weight::Float32(_) => Precision::Float32,
            Weight::Bfloat16(_) => Precision::Bfloat16,
        }
    }

    /// All numbers as f32.
    pub(crate) fn read(&self) -> Numbers<'_> {
        self.read_part(0..self.count())
    }

    /// Some of the numbers as f32.
    pub(crate) fn read_part(&self, part: Range<usize>) -> Numbers<'_> {
        match self {
            Weight::Float32(parameter) => match parameter.read() {
                Numbers::Place { guard, range } => {
                    Numbers::Place { guard, range: range.start + part.start..range.start + part.end }
                }
                widened => widened,
            },
            Weight::Bfloat16(halves) => {
                use half::slice::HalfFloatSliceExt;
                let mut buffer = Buffer::new(part.len());
                halves.numbers[part].convert_to_f32_slice(&mut buffer);
                Numbers::Widened(Widened(buffer))
            }
        }
    }

    /// The parameter, where the weight is trainable.
    pub(crate) fn parameter(&self) -> Option<&Parameter> {
        match self {
            Weight::Float32(parameter) => Some(parameter),
            Weight::Bfloat16(_) => None,
        }
    }

    /// A copy that shares no memory.
    pub(crate) fn duplicate(&self) -> Result<Weight, ModelError> {
        Weight::new(self.name(), self.read().to_vec(), self.shape(), self.precision())
    }
}
