//! One function a kernel: checks that the arrays are large enough, chooses the grid, launches.

mod attention;
mod head;
mod rows;

pub(crate) use attention::{AttentionGradient, CacheRows, HeadCounts, Tiles, Turn};
pub(crate) use head::Update;

use crate::cuda::array::{Array, Grid, View};
use crate::cuda::driver::{Argument, Driver, Matrix, Number, Product};
use crate::device::DeviceError;

/// Threads of a block that works through one row.
const ROW: u32 = 128;
/// Threads of a block that works on single numbers.
const FLAT: u32 = 256;
/// Blocks at most where each goes through many rows or numbers: a few for each multiprocessor of a large GPU. Fixed, so that
/// the order of sums does not depend on the device.
const BLOCKS: usize = 512;
type Done = Result<(), DeviceError>;

/// The kernels of a driver.
pub(crate) struct Kernels<D: Driver> {
    pub(crate) driver: D,
    number: Number,
    head: usize,
}

fn word(value: usize) -> Result<u32, DeviceError> {
    u32::try_from(value)
        .map_err(|_| DeviceError::Unsupported { what: format!("{value} does not fit 32 bits") })
}

impl<D: Driver> Kernels<D> {
    pub(crate) fn new(driver: D) -> Kernels<D> {
        let (number, head) = (driver.precision().number(), driver.head_width());
        Kernels { driver, number, head }
    }

    // ---- arrays ----------------------------------------------------------------------------------------------------

    /// Weights or activations.
    pub(crate) fn reals(&self, length: usize) -> Result<Array<D>, DeviceError> {
        Array::new(&self.driver, self.number, length)
    }

    pub(crate) fn floats(&self, length: usize) -> Result<Array<D>, DeviceError> {
        Array::new(&self.driver, Number::F32, length)
    }

    pub(crate) fn zeros(&self, length: usize) -> Result<Array<D>, DeviceError> {
        let array = self.floats(length)?;
        self.clear(array.view())?;
        Ok(array)
    }

    pub(crate) fn words(&self, values: &[u32]) -> Result<Array<D>, DeviceError> {
        let array = Array::new(&self.driver, Number::U32, values.len())?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        self.driver.upload(&bytes, array.view().buffer, 0)?;
        Ok(array)
    }

    pub(crate) fn clear(&self, view: View<'_, D>) -> Done {
        let bytes = view.number.bytes();
        self.driver.clear(view.buffer, view.offset * bytes, view.length * bytes)
    }

    /// Copies numbers from the host, rounding them where the array is bf16.
    pub(crate) fn write(&self, view: View<'_, D>, values: &[f32]) -> Done {
        if values.len() != view.length || view.number == Number::U32 {
            return Err(DeviceError::input(format!("{} numbers for {}", values.len(), view.length)));
        }
        let bytes: Vec<u8> = match view.number {
            Number::Bf16 => {
                values.iter().flat_map(|&value| half::bf16::from_f32(value).to_bits().to_ne_bytes()).collect()
            }
            _ => values.iter().flat_map(|value| value.to_ne_bytes()).collect(),
        };
        self.driver.upload(&bytes, view.buffer, view.offset * view.number.bytes())
    }

    /// Copies numbers to the host, widened.
    pub(crate) fn read(&self, view: View<'_, D>) -> Result<Vec<f32>, DeviceError> {
        let mut bytes = vec![0u8; view.length * view.number.bytes()];
        self.driver.download(view.buffer, view.offset * view.number.bytes(), &mut bytes)?;
        Ok(match view.number {
            Number::Bf16 => bytes
                .chunks_exact(2)
                .map(|pair| half::bf16::from_bits(u16::from_ne_bytes([pair[0], pair[1]])).to_f32())
                .collect(),
            _ => bytes
                .chunks_exact(4)
                .map(|four| f32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
                .collect(),
        })
    }

    /// Copies unsigned integers to the host.
    pub(crate) fn read_words(&self, view: View<'_, D>) -> Result<Vec<u32>, DeviceError> {
        let mut bytes = vec![0u8; view.length * 4];
        self.driver.download(view.buffer, view.offset * 4, &mut bytes)?;
        Ok(bytes
            .chunks_exact(4)
            .map(|four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
            .collect())
    }

    pub(crate) fn copy(&self, source: View<'_, D>, target: View<'_, D>) -> Done {
        if source.number != target.number || source.length != target.length {
            return Err(DeviceError::input("a copy between different arrays"));
        }
        let bytes = source.number.bytes();
        self.driver.copy(
            (source.buffer, source.offset * bytes),
            (target.buffer, target.offset * bytes),
            source.length * bytes,
        )
    }

    // ---- launching -------------------------------------------------------------------------------------------------

    fn real<'a>(&self, view: View<'a, D>, length: usize) -> Result<Argument<'a, D::Buffer>, DeviceError> {
        view.argument(self.number, length)
    }

    fn maybe<'a>(
        &self,
        view: Option<View<'a, D>>,
        length: usize,
    ) -> Result<Argument<'a, D::Buffer>, DeviceError> {
        view.map_or(Ok(Argument::Null), |view| self.real(view, length))
    }

    fn run(
        &self,
        kernel: &'static str,
        grid: [usize; 3],
        block: u32,
        shared: usize,
        arguments: &[Argument<'_, D::Buffer>],
    ) -> Done {
        if grid.contains(&0) {
            return Ok(());
        }
        let grid = [word(grid[0])?, word(grid[1])?, word(grid[2])?];
        // SAFETY: the functions below give each kernel its own arguments, after checking that every array is as long as the
        // kernel reads or writes; lists of rows, ids and places are checked where the host makes them.
        unsafe { self.driver.launch(kernel, grid, block, word(shared)?, arguments) }
    }

    /// `out = alpha · left · right + beta · out`.
    pub(crate) fn product(
        &self,
        out: Grid<'_, D>,
        left: Grid<'_, D>,
        right: Grid<'_, D>,
        alpha: f32,
        beta: f32,
    ) -> Done {
        let (rows, columns, depth) = (left.rows(), right.columns(), left.columns());
        let fits = out.rows() == rows
            && out.columns() == columns
            && right.rows() == depth
            && !out.transposed
            && left.view.number == right.view.number
            && [out, left, right].iter().all(Grid::inside);
        if !fits {
            return Err(DeviceError::input(format!(
                "a product of {rows} × {depth} and {} × {columns} into {} × {}",
                right.rows(),
                out.rows(),
                out.columns()
            )));
        }
        if rows == 0 || columns == 0 {
            return Ok(());
        }
        // SAFETY: all three lie inside their arrays, as was checked; the engine never gives one array twice.
        unsafe {
            self.driver.product(&Product {
                rows,
                columns,
                depth,
                left: matrix(left),
                right: matrix(right),
                out: matrix(out),
                alpha,
                beta,
            })
        }
    }
}

fn matrix<'a, D: Driver>(grid: Grid<'a, D>) -> Matrix<'a, D::Buffer> {
    Matrix {
        buffer: grid.view.buffer,
        number: grid.view.number,
        offset: grid.view.offset,
        stride: grid.stride,
        transposed: grid.transposed,
    }
}
