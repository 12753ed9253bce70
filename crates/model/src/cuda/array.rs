//! Arrays of numbers on a device, and parts of them.

use super::driver::{Argument, Driver, Number};
use crate::device::DeviceError;

/// Numbers on a device. Their first content is unspecified.
pub(crate) struct Array<D: Driver> {
    buffer: D::Buffer,
    number: Number,
    length: usize,
}

/// A part of an [`Array`]. Kernels write through it: the host never holds a reference to what lies there.
pub(crate) struct View<'a, D: Driver> {
    pub(crate) buffer: &'a D::Buffer,
    pub(crate) number: Number,
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

impl<D: Driver> Clone for View<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D: Driver> Copy for View<'_, D> {}

impl<D: Driver> Array<D> {
    pub(crate) fn new(driver: &D, number: Number, length: usize) -> Result<Array<D>, DeviceError> {
        // An allocation of nothing is refused by some devices; nothing reads this number.
        let buffer = driver.allocate(length.max(1) * number.bytes())?;
        Ok(Array { buffer, number, length })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn view(&self) -> View<'_, D> {
        View { buffer: &self.buffer, number: self.number, offset: 0, length: self.length }
    }

    pub(crate) fn part(&self, offset: usize, length: usize) -> View<'_, D> {
        self.view().part(offset, length)
    }
}

impl<'a, D: Driver> View<'a, D> {
    /// `length` numbers from `offset` on.
    ///
    /// # Panics
    /// Where they do not lie inside, which is a mistake of the engine.
    pub(crate) fn part(self, offset: usize, length: usize) -> View<'a, D> {
        assert!(offset + length <= self.length, "{offset} + {length} of {} numbers", self.length);
        View { offset: self.offset + offset, length, ..self }
    }

    /// As an argument of a kernel that takes `length` numbers of this type there.
    pub(crate) fn argument(
        self,
        number: Number,
        length: usize,
    ) -> Result<Argument<'a, D::Buffer>, DeviceError> {
        if self.number != number || self.length < length {
            return Err(DeviceError::input(format!(
                "a kernel wants {length} × {number:?}, the array holds {} × {:?}",
                self.length, self.number
            )));
        }
        Ok(Argument::Pointer(self.buffer, self.offset * number.bytes()))
    }

    /// As a matrix of that many rows and columns, one row right after the other.
    pub(crate) fn matrix(self, rows: usize, columns: usize) -> Grid<'a, D> {
        Grid { view: self, rows, columns, stride: columns, transposed: false }
    }
}

/// A view as a matrix.
pub(crate) struct Grid<'a, D: Driver> {
    pub(crate) view: View<'a, D>,
    rows: usize,
    columns: usize,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl<D: Driver> Clone for Grid<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<D: Driver> Copy for Grid<'_, D> {}

impl<'a, D: Driver> Grid<'a, D> {
    /// Rows as the product sees them.
    pub(crate) fn rows(&self) -> usize {
        if self.transposed { self.columns } else { self.rows }
    }

    /// Columns as the product sees them.
    pub(crate) fn columns(&self) -> usize {
        if self.transposed { self.rows } else { self.columns }
    }

    pub(crate) fn transposed(self) -> Grid<'a, D> {
        Grid { transposed: !self.transposed, ..self }
    }

    /// `count` columns from `first` on, of a matrix that is not transposed.
    pub(crate) fn some_columns(self, first: usize, count: usize) -> Grid<'a, D> {
        assert!(!self.transposed && first + count <= self.columns, "{first} + {count} of {}", self.columns);
        let view = View { offset: self.view.offset + first, length: self.view.length - first, ..self.view };
        Grid { view, columns: count, ..self }
    }

    /// Whether all of it lies within the view.
    pub(crate) fn inside(&self) -> bool {
        self.columns <= self.stride
            && (self.rows == 0 || (self.rows - 1) * self.stride + self.columns <= self.view.length)
    }
}
