//! Weights laid out for decoding, where few rows meet every weight.

use rayon::prelude::*;

use super::matmul::{Product, Strided};
use super::simd::{Kernel, Simd, dispatch};

/// Columns in a panel of a [`PackedMatrix`]: a multiple of every tile width.
const PANEL: usize = 48;
/// Products below this many multiplications stay on one thread.
const PARALLEL: usize = 1 << 22;

/// A weight `[n, k]` laid out for decoding: panels of 48 outputs, in each the inputs one after the other.
pub(crate) struct PackedMatrix {
    k: usize,
    n: usize,
    panels: Vec<f32>,
}

impl PackedMatrix {
    /// Lays out a weight whose rows are outputs, `k` inputs each.
    pub(crate) fn new(weight: &[f32], k: usize) -> PackedMatrix {
        let n = weight.len() / k;
        let mut panels = vec![0.0; n.div_ceil(PANEL) * PANEL * k];
        panels.par_chunks_mut(PANEL * k).enumerate().for_each(|(index, panel)| {
            for column in 0..PANEL.min(n - index * PANEL) {
                let source = &weight[(index * PANEL + column) * k..][..k];
                for (at, value) in source.iter().enumerate() {
                    panel[at * PANEL + column] = *value;
                }
            }
        });
        PackedMatrix { k, n, panels }
    }

    /// `out[rows, n] = x[rows, k] · weightᵀ`, or adds it.
    pub(crate) fn multiply(&self, x: &[f32], out: &mut [f32], accumulate: bool) {
        let rows = x.len() / self.k;
        assert_eq!(out.len(), rows * self.n);
        let panels = self.n.div_ceil(PANEL);
        let threads = rayon::current_num_threads();
        if rows * self.k * self.n < PARALLEL || threads == 1 || panels < 2 * threads {
            dispatch(Panels { matrix: self, first: 0, rows, x, out, out_row: self.n, accumulate });
            return;
        }
        // Every thread computes some panels into rows of its own, which are then copied: rows of `out` interleave panels.
        let share = panels.div_ceil(threads);
        let parts: Vec<(usize, usize, Vec<f32>)> = (0..panels.div_ceil(share))
            .into_par_iter()
            .map(|index| {
                let first = index * share;
                let width = ((first + share) * PANEL).min(self.n) - first * PANEL;
                let mut part = vec![0.0; rows * width];
                if accumulate {
                    for (part, out) in part.chunks_exact_mut(width).zip(out.chunks_exact(self.n)) {
                        part.copy_from_slice(&out[first * PANEL..first * PANEL + width]);
                    }
                }
                dispatch(Panels { matrix: self, first, rows, x, out: &mut part, out_row: width, accumulate });
                (first * PANEL, width, part)
            })
            .collect();
        for (at, width, part) in parts {
            for (part, out) in part.chunks_exact(width).zip(out.chunks_exact_mut(self.n)) {
                out[at..at + width].copy_from_slice(part);
            }
        }
    }
}

/// Consecutive panels, from `first` to as many as `out_row` has columns.
struct Panels<'a> {
    matrix: &'a PackedMatrix,
    first: usize,
    rows: usize,
    x: &'a [f32],
    out: &'a mut [f32],
    out_row: usize,
    accumulate: bool,
}

impl Kernel for Panels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Panels { matrix, first, rows, x, out, out_row, accumulate } = self;
        for at in (0..out_row).step_by(PANEL) {
            let product = Product {
                m: rows,
                n: PANEL.min(out_row - at),
                k: matrix.k,
                a: Strided::rows(x, matrix.k),
                b: &matrix.panels[(first + at / PANEL) * PANEL * matrix.k..][..PANEL * matrix.k],
                b_row: PANEL,
                out: &mut out[at..],
                out_row,
                accumulate,
            };
            // SAFETY: passed on from the caller.
            unsafe { product.with::<S>() }
        }
    }
}
