//! Attention of single rows over cached keys and values.

use super::attention::{Heads, exponentials, largest};
use super::matmul::{Product, Strided};
use super::simd::{Kernel, Simd, dispatch};

/// Positions in a block of cached keys.
const BLOCK: usize = 64;

/// Keys and values of one sequence in one layer.
///
/// Keys lie in blocks of 64 positions, `[key head][width][64]` each, so that scores are computed side by side and the cache
/// grows without moving; values lie in rows `[position][key head][width]`.
pub(crate) struct Cache {
    length: usize,
    block: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Cache {
    /// An empty cache.
    pub(crate) fn new(heads: Heads) -> Cache {
        Cache { length: 0, block: heads.key * heads.width * BLOCK, keys: Vec::new(), values: Vec::new() }
    }

    /// Appends the key and value parts of a row of `qkv`.
    pub(crate) fn push(&mut self, heads: Heads, qkv: &[f32]) {
        let lane = self.length % BLOCK;
        if lane == 0 {
            self.keys.resize(self.keys.len() + self.block, 0.0);
        }
        let (query, key) = (heads.query * heads.width, heads.key * heads.width);
        let block = self.length / BLOCK * self.block;
        for (at, value) in qkv[query..query + key].iter().enumerate() {
            self.keys[block + at * BLOCK + lane] = *value;
        }
        self.values.extend_from_slice(&qkv[query + key..query + 2 * key]);
        self.length += 1;
    }
}

/// Attention of one row over the first `visible` cached positions; writes `[query·width]` numbers.
pub(crate) fn attend(cache: &Cache, heads: Heads, qkv: &[f32], visible: usize, out: &mut [f32]) {
    assert!(visible >= 1 && visible <= cache.length);
    dispatch(Attend { cache, heads, qkv, visible, out });
}

struct Attend<'a> {
    cache: &'a Cache,
    heads: Heads,
    qkv: &'a [f32],
    visible: usize,
    out: &'a mut [f32],
}

impl Kernel for Attend<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Attend { cache, heads, qkv, visible, out } = self;
        let (width, group) = (heads.width, heads.group());
        let line = visible.next_multiple_of(BLOCK);
        let mut scores = vec![0.0; group * line];
        for head in 0..heads.key {
            let queries = &qkv[head * group * width..(head + 1) * group * width];
            // SAFETY: the processor has the features of S; every part below lies inside its buffer.
            unsafe {
                for first in (0..visible).step_by(BLOCK) {
                    Product {
                        m: group,
                        n: BLOCK.min(visible - first),
                        k: width,
                        a: Strided::rows(queries, width),
                        b: &cache.keys[first / BLOCK * cache.block + head * width * BLOCK..][..width * BLOCK],
                        b_row: BLOCK,
                        out: &mut scores[first..],
                        out_row: line,
                        accumulate: false,
                    }
                    .with::<S>();
                }
                let mut totals = vec![0.0f32; group];
                for (query, total) in totals.iter_mut().enumerate().take(group) {
                    let scores = &mut scores[query * line..query * line + visible];
                    let peak = largest::<S>(scores) * heads.scale();
                    *total = exponentials::<S>(scores, heads.scale(), peak);
                }
                let target = &mut out[head * group * width..(head + 1) * group * width];
                Product {
                    m: group,
                    n: width,
                    k: visible,
                    a: Strided::rows(&scores, line),
                    b: &cache.values[head * width..],
                    b_row: heads.key * width,
                    out: target,
                    out_row: width,
                    accumulate: false,
                }
                .with::<S>();
                for (row, total) in target.chunks_exact_mut(width).zip(&totals) {
                    for value in row {
                        *value /= total;
                    }
                }
            }
        }
    }
}
