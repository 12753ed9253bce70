//! Matrix products: large ones through `gemm`, small and decoding ones through a register-tiled kernel of our own.
//!
//! The kernel of our own adds up over the inner dimension strictly in order, whatever the number of rows, so that a row's
//! result does not depend on the rows computed beside it. Sampling relies on that.

use super::simd::{Kernel, Simd};

/// A matrix in a slice: element (r, c) lies at `r * row + c * column`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a> Strided<'a> {
    /// Rows one after the other, `row` numbers apart.
    pub(crate) fn rows(data: &'a [f32], row: usize) -> Strided<'a> {
        Strided { data, row, column: 1 }
    }

    /// The transpose.
    pub(crate) fn transposed(self) -> Strided<'a> {
        Strided { data: self.data, row: self.column, column: self.row }
    }

    /// Panics unless a matrix of this size lies in the slice.
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        assert!(
            rows == 0
                || columns == 0
                || (rows - 1) * self.row + (columns - 1) * self.column < self.data.len(),
            "a {rows}×{columns} matrix does not fit in {} numbers",
            self.data.len()
        );
    }
}

/// `out = a · b` (or `out += a · b`), a is m×k, b is k×n, out has rows `out_row` apart. One thread.
#[allow(clippy::too_many_arguments, reason = "three sizes and three matrices are what a product has")]
pub(crate) fn gemm(
    m: usize,
    n: usize,
    k: usize,
    out: &mut [f32],
    out_row: usize,
    accumulate: bool,
    a: Strided<'_>,
    b: Strided<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    a.check(m, k);
    b.check(k, n);
    Strided::rows(out, out_row).check(m, n);
    assert!(out_row >= n, "rows of the product would overlap");
    // SAFETY: the three checks above prove that every element that gemm touches lies in its slice, and `out` is borrowed
    // mutably, so that it overlaps with neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            accumulate,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `a · b` on the calling thread: `a` is `rows × inner`, `b` is `inner × columns` (`columns × inner` where it is `transposed`), all
/// of them row after row.
///
/// # Panics
/// Operands of other sizes.
pub fn matrix_product(
    [rows, inner, columns]: [usize; 3],
    a: &[f32],
    b: &[f32],
    transposed: bool,
) -> Vec<f32> {
    let right = if transposed { Strided::rows(b, inner).transposed() } else { Strided::rows(b, columns) };
    let mut out = vec![0.0; rows * columns];
    gemm(rows, columns, inner, &mut out, columns, false, Strided::rows(a, inner), right);
    out
}

/// Rows in a block of work that one thread takes at a time.
pub(crate) const ROW_BLOCK: usize = 128;

pub(crate) use super::operand::weight_gradient;

/// `out = a · b` with our own kernel; columns of `b` and `out` lie side by side.
pub(crate) struct Product<'a> {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Strided<'a>,
    pub(crate) b: &'a [f32],
    pub(crate) b_row: usize,
    pub(crate) out: &'a mut [f32],
    pub(crate) out_row: usize,
    pub(crate) accumulate: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Product { m, n, k, a, b, b_row, out, out_row, accumulate } = self;
        if m == 0 || n == 0 {
            return;
        }
        a.check(m, k);
        Strided::rows(b, b_row).check(k, n);
        Strided::rows(out, out_row).check(m, n);
        let tiles = Tiles {
            k,
            a: a.data.as_ptr(),
            row: a.row,
            column: a.column,
            b: b.as_ptr(),
            b_row,
            out: out.as_mut_ptr(),
            out_row,
            accumulate,
        };
        // SAFETY: the checks above prove that every element of the three matrices lies in its slice; the features are the
        // caller's promise.
        unsafe { S::product(tiles, m, n) }
    }
}

impl Product<'_> {
    /// Computes it inside a kernel.
    ///
    /// # Safety
    /// The processor has the features of `S`.
    #[inline(always)]
    pub(crate) unsafe fn with<S: Simd>(self) {
        // SAFETY: passed on from the caller.
        unsafe { S::call(self) }
    }
}

/// A product whose bounds have been checked.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    k: usize,
    a: *const f32,
    row: usize,
    column: usize,
    b: *const f32,
    b_row: usize,
    out: *mut f32,
    out_row: usize,
    accumulate: bool,
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "`Product::with` has checked every bound of the call")]
#[allow(clippy::needless_range_loop, reason = "the loops unroll over registers")]
impl Tiles {
    /// Computes all columns, R × C registers at a time.
    ///
    /// # Safety
    /// The processor has the features of `S`, and the bounds have been checked.
    #[inline(always)]
    pub(crate) unsafe fn columns<S: Simd, const R: usize, const C: usize>(self, m: usize, n: usize) {
        let mut at = 0;
        while at < n {
            let left = n - at;
            let part = Tiles { b: unsafe { self.b.add(at) }, out: unsafe { self.out.add(at) }, ..self };
            unsafe {
                if left >= C * S::LANES {
                    part.rows::<S, R, C>(m, S::LANES);
                    at += C * S::LANES;
                } else {
                    let vectors = left.div_ceil(S::LANES);
                    let last = left - (vectors - 1) * S::LANES;
                    match vectors {
                        1 => part.rows::<S, R, 1>(m, last),
                        2 => part.rows::<S, R, 2>(m, last),
                        _ => part.rows::<S, R, 3>(m, last),
                    }
                    at = n;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const R: usize, const C: usize>(self, m: usize, last: usize) {
        let mut at = 0;
        while at < m {
            unsafe {
                let part =
                    Tiles { a: self.a.add(at * self.row), out: self.out.add(at * self.out_row), ..self };
                let left = m - at;
                if left >= R {
                    part.tile::<S, R, C>(last);
                    at += R;
                } else if left >= 4 {
                    part.tile::<S, 4, C>(last);
                    at += 4;
                } else if left >= 2 {
                    part.tile::<S, 2, C>(last);
                    at += 2;
                } else {
                    part.tile::<S, 1, C>(last);
                    at += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const C: usize>(self, last: usize) {
        unsafe {
            let full = last == S::LANES;
            let mut sums = [[S::splat(0.0); C]; R];
            if self.accumulate {
                for r in 0..R {
                    for c in 0..C {
                        let from = self.out.add(r * self.out_row + c * S::LANES);
                        sums[r][c] =
                            if c + 1 < C || full { S::load(from) } else { S::load_partial(from, last) };
                    }
                }
            }
            if full {
                for index in 0..self.k {
                    let b = self.b.add(index * self.b_row);
                    let mut columns = [S::splat(0.0); C];
                    for c in 0..C {
                        columns[c] = S::load(b.add(c * S::LANES));
                    }
                    for r in 0..R {
                        let value = S::splat(*self.a.add(r * self.row + index * self.column));
                        for c in 0..C {
                            sums[r][c] = S::fma(value, columns[c], sums[r][c]);
                        }
                    }
                }
            } else {
                for index in 0..self.k {
                    let b = self.b.add(index * self.b_row);
                    let mut columns = [S::splat(0.0); C];
                    for c in 0..C - 1 {
                        columns[c] = S::load(b.add(c * S::LANES));
                    }
                    columns[C - 1] = S::load_partial(b.add((C - 1) * S::LANES), last);
                    for r in 0..R {
                        let value = S::splat(*self.a.add(r * self.row + index * self.column));
                        for c in 0..C {
                            sums[r][c] = S::fma(value, columns[c], sums[r][c]);
                        }
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    let to = self.out.add(r * self.out_row + c * S::LANES);
                    if c + 1 < C || full {
                        S::store(to, sums[r][c])
                    } else {
                        S::store_partial(to, sums[r][c], last)
                    }
                }
            }
        }
    }
}
