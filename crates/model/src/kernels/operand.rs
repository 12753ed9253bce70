//! Large matrix products: the right operand is laid out once and shared by all blocks of rows and all threads.
//!
//! `gemm`, which lays its operands out anew in every call, spends up to two fifths of its time on that where a thread
//! computes 128 rows at a time with a transposed weight. Here each element is a sum in a fixed order (whatever the number of
//! threads and rows), so that runs repeat bit for bit.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::matmul::Strided;
use super::simd::{Kernel, Simd, dispatch};

/// Columns in a panel: a multiple of every tile's width.
const PANEL: usize = 48;
/// Inner indices in a block: a panel of as many (96 KiB) and a thread's rows lie in the second cache.
const DEPTH: usize = 512;
/// Rows of a register tile, and of a group of packed rows.
const TILE: usize = 8;

/// The right operand b (k×n) of products, in blocks of 512 inner indices, in each panels of 48 columns.
pub(crate) struct Operand {
    k: usize,
    n: usize,
    panels: Buffer,
}

impl Operand {
    /// Lays out b (k×n), on all threads.
    pub(crate) fn new(k: usize, n: usize, b: Strided<'_>) -> Operand {
        b.check(k, n);
        let width = n.div_ceil(PANEL) * PANEL;
        let mut panels = Buffer::new(k * width);
        panels.par_chunks_mut(DEPTH * width).enumerate().for_each(|(block, target)| {
            let depth = target.len() / width;
            target.par_chunks_mut(PANEL * depth).enumerate().for_each(|(panel, target)| {
                let columns = PANEL.min(n - panel * PANEL);
                let start = block * DEPTH * b.row + panel * PANEL * b.column;
                lay_out(&b.data[start..], b.row, b.column, columns, target);
            });
        });
        Operand { k, n, panels }
    }

    /// For `x · weightᵀ`, where the weight has `k` numbers a row.
    pub(crate) fn transposed(weight: &[f32], k: usize) -> Operand {
        Operand::new(k, weight.len() / k, Strided::rows(weight, k).transposed())
    }

    /// For `dy · weight`, where the weight has `n` numbers a row.
    pub(crate) fn plain(weight: &[f32], n: usize) -> Operand {
        Operand::new(weight.len() / n, n, Strided::rows(weight, n))
    }

    /// `out = a · b` (or `out += a · b`) for `m` rows, on this thread; rows of `out` lie `out_row` apart.
    pub(crate) fn multiply(
        &self,
        m: usize,
        a: Strided<'_>,
        out: &mut [f32],
        out_row: usize,
        accumulate: bool,
    ) {
        if m == 0 || self.n == 0 {
            return;
        }
        if self.k == 0 {
            if !accumulate {
                out.chunks_mut(out_row).take(m).for_each(|row| row[..self.n].fill(0.0));
            }
            return;
        }
        dispatch(self.rows(m, a, out, out_row, accumulate));
    }

    /// The product of `m` rows as a kernel, its bounds checked.
    pub(super) fn rows<'a>(
        &'a self,
        m: usize,
        a: Strided<'a>,
        out: &'a mut [f32],
        out_row: usize,
        accumulate: bool,
    ) -> Rows<'a> {
        a.check(m, self.k);
        Strided::rows(out, out_row).check(m, self.n);
        assert!(out_row >= self.n || m == 1, "rows of the product would overlap");
        Rows { operand: self, m, a, out, out_row, accumulate }
    }
}

/// Copies a panel: `to[i][c] = from[i · row + c · column]`, zeros in the columns that are not there.
fn lay_out(from: &[f32], row: usize, column: usize, columns: usize, to: &mut [f32]) {
    if columns < PANEL {
        to.fill(0.0);
    }
    if column == 1 {
        for (index, to) in to.chunks_exact_mut(PANEL).enumerate() {
            to[..columns].copy_from_slice(&from[index * row..][..columns]);
        }
        return;
    }
    // A transpose, in squares of 16 that stay in the first cache.
    for (block, to) in to.chunks_mut(16 * PANEL).enumerate() {
        let count = to.len() / PANEL;
        for at in 0..columns {
            let start = block * 16 * row + at * column;
            if row == 1 && count == 16 {
                let source: &[f32; 16] = from[start..start + 16].try_into().expect("sixteen numbers");
                for (index, value) in source.iter().enumerate() {
                    to[index * PANEL + at] = *value;
                }
            } else {
                for index in 0..count {
                    to[index * PANEL + at] = from[start + index * row];
                }
            }
        }
    }
}

/// The product of some rows with an operand, on one thread.
pub(super) struct Rows<'a> {
    operand: &'a Operand,
    m: usize,
    a: Strided<'a>,
    out: &'a mut [f32],
    out_row: usize,
    accumulate: bool,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Rows { operand, m, a, out, out_row, accumulate } = self;
        let width = operand.n.div_ceil(PANEL) * PANEL;
        // Rows whose numbers lie apart are packed: the numbers of eight rows side by side.
        let mut packed =
            if a.column == 1 { Buffer::default() } else { Buffer::new(m.next_multiple_of(TILE) * DEPTH) };
        for start in (0..operand.k).step_by(DEPTH) {
            let depth = DEPTH.min(operand.k - start);
            if a.column != 1 {
                pack_rows(m, depth, Strided { data: &a.data[start * a.column..], ..a }, &mut packed);
            }
            let panels = &operand.panels[start * width..(start + depth) * width];
            for (index, panel) in panels.chunks_exact(PANEL * depth).enumerate() {
                let columns = PANEL.min(operand.n - index * PANEL);
                let part = Part {
                    depth,
                    panel: panel.as_ptr(),
                    out: out[index * PANEL..].as_mut_ptr(),
                    out_row,
                    accumulate: accumulate || start > 0,
                };
                // SAFETY: `multiply` has checked that m rows of `a` and of `out` lie in their slices, the panel holds
                // `depth` rows of 48 numbers, and the processor has the features of S.
                unsafe {
                    if a.column == 1 {
                        let rows = a.data.as_ptr().add(start);
                        part.columns::<S, false>(m, columns, rows, a.row);
                    } else {
                        part.columns::<S, true>(m, columns, packed.as_ptr(), 0);
                    }
                }
            }
        }
    }
}

/// Lays out rows in groups of eight, `[group][depth][8]`; what lies behind the last row of the last group is unspecified.
#[inline(always)]
fn pack_rows(m: usize, depth: usize, a: Strided<'_>, to: &mut [f32]) {
    for index in 0..depth {
        for first in (0..m).step_by(TILE) {
            let to = &mut to[first * depth + index * TILE..][..TILE];
            let count = TILE.min(m - first);
            let start = index * a.column + first * a.row;
            if a.row == 1 && count == TILE {
                to.copy_from_slice(&a.data[start..start + TILE]);
            } else {
                for (offset, to) in to.iter_mut().enumerate().take(count) {
                    *to = a.data[start + offset * a.row];
                }
            }
        }
    }
}

/// One panel's share of a product, bounds checked.
#[derive(Clone, Copy)]
struct Part {
    depth: usize,
    panel: *const f32,
    out: *mut f32,
    out_row: usize,
    accumulate: bool,
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "the contract of `columns`")]
#[allow(clippy::needless_range_loop, reason = "the loops unroll over registers")]
impl Part {
    /// All rows, three registers of columns at a time.
    ///
    /// # Safety
    /// `m` rows of `a` (`row` apart, or packed in groups of eight) and of the output are valid, `panel` holds `depth` rows of
    /// 48 numbers, and the processor has the features of `S`.
    #[inline(always)]
    unsafe fn columns<S: Simd, const PACKED: bool>(
        self,
        m: usize,
        columns: usize,
        a: *const f32,
        row: usize,
    ) {
        let mut at = 0;
        while at < columns {
            let part =
                Part { panel: unsafe { self.panel.add(at) }, out: unsafe { self.out.add(at) }, ..self };
            let left = columns - at;
            unsafe {
                if left > 2 * S::LANES {
                    part.rows::<S, 3, PACKED>(m, S::LANES.min(left - 2 * S::LANES), a, row);
                } else if left > S::LANES {
                    part.rows::<S, 2, PACKED>(m, left - S::LANES, a, row);
                } else {
                    part.rows::<S, 1, PACKED>(m, left, a, row);
                }
            }
            at += 3 * S::LANES;
        }
    }

    /// All rows of `C` registers of columns, of whose last one `last` lanes are in use.
    #[inline(always)]
    unsafe fn rows<S: Simd, const C: usize, const PACKED: bool>(
        self,
        m: usize,
        last: usize,
        a: *const f32,
        row: usize,
    ) {
        let mut at = 0;
        while at < m {
            unsafe {
                let part = Part { out: self.out.add(at * self.out_row), ..self };
                let left = m - at;
                let a =
                    if PACKED { a.add(at / TILE * TILE * self.depth + at % TILE) } else { a.add(at * row) };
                if left >= TILE {
                    // Sixteen wide registers hold 8 × 3 sums and what they need, eight narrow ones less.
                    if S::LANES == 16 {
                        part.tile::<S, 8, C, PACKED>(last, a, row);
                    } else {
                        for half in 0..2 {
                            let a = if PACKED { a.add(half * 4) } else { a.add(half * 4 * row) };
                            let part = Part { out: part.out.add(half * 4 * self.out_row), ..part };
                            part.tile::<S, 4, C, PACKED>(last, a, row);
                        }
                    }
                    at += TILE;
                } else if left >= 4 {
                    part.tile::<S, 4, C, PACKED>(last, a, row);
                    at += 4;
                } else {
                    part.tile::<S, 1, C, PACKED>(last, a, row);
                    at += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const C: usize, const PACKED: bool>(
        self,
        last: usize,
        a: *const f32,
        row: usize,
    ) {
        unsafe {
            let mut sums = [[S::splat(0.0); C]; R];
            for index in 0..self.depth {
                let panel = self.panel.add(index * PANEL);
                let mut columns = [S::splat(0.0); C];
                for c in 0..C {
                    columns[c] = S::load(panel.add(c * S::LANES));
                }
                for r in 0..R {
                    let value =
                        S::splat(if PACKED { *a.add(index * TILE + r) } else { *a.add(r * row + index) });
                    for c in 0..C {
                        sums[r][c] = S::fma(value, columns[c], sums[r][c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    let to = self.out.add(r * self.out_row + c * S::LANES);
                    if c + 1 < C || last == S::LANES {
                        let before = if self.accumulate { S::load(to) } else { S::splat(0.0) };
                        S::store(to, S::add(before, sums[r][c]));
                    } else {
                        let before = if self.accumulate { S::load_partial(to, last) } else { S::splat(0.0) };
                        S::store_partial(to, S::add(before, sums[r][c]), last);
                    }
                }
            }
        }
    }
}

/// Weight gradient `out[n×k] = dyᵀ · x` over `tokens` rows (or `+=`), split over the threads by rows of `out`.
///
/// Each element is summed over the tokens by one thread in one order, so that runs repeat bit for bit.
pub(crate) fn weight_gradient(
    tokens: usize,
    out: &mut [f32],
    width: usize,
    dy: Strided<'_>,
    x: Strided<'_>,
    accumulate: bool,
) {
    if width == 0 || out.is_empty() {
        return;
    }
    let rows = Operand::new(tokens, width, x);
    add_weight_gradient(&rows, out, dy, accumulate);
}

/// As [`weight_gradient`], with the rows x (tokens × width) laid out before, for several gradients of one input.
pub(crate) fn add_weight_gradient(x: &Operand, out: &mut [f32], dy: Strided<'_>, accumulate: bool) {
    let (tokens, width) = (x.k, x.n);
    let rows = out.len() / width;
    // A multiple of the tile that gives every thread something to do.
    let share = rows.div_ceil(rayon::current_num_threads().max(1)).next_multiple_of(TILE).min(GRADIENT_ROWS);
    out.par_chunks_mut(share * width).enumerate().for_each(|(index, part)| {
        if tokens == 0 {
            if !accumulate {
                part.fill(0.0);
            }
            return;
        }
        let columns = Strided { data: &dy.data[index * share * dy.column..], ..dy };
        x.multiply(part.len() / width, columns.transposed(), part, width, accumulate);
    });
}

/// Rows of a weight gradient that a thread computes at a time.
const GRADIENT_ROWS: usize = 96;
