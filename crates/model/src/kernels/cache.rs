//! Attention of new rows over cached keys and values, which may begin with a prefix that several sequences share.
//!
//! A row's result is the same bits however its keys are split between prefix and tail, and whatever rows stand beside it:
//! scores and values are added up in the order of the positions, and the softmax sees one line of scores.

use std::cell::RefCell;

use super::attention::{Heads, exponentials, largest};
use super::decoding::Disjoint;
use super::matmul::{Product, Strided};
use super::rows::{Rotary, dot};
use super::simd::{Kernel, Simd, dispatch};

/// Positions in a block of cached keys.
const BLOCK: usize = 64;

/// Keys and values of consecutive positions in one layer.
///
/// Keys lie in blocks of 64 positions, `[key head][width][64]` each, so that scores are computed side by side and the cache
/// grows without moving; values lie in rows `[position][key head][width]`.
#[derive(Default)]
pub(crate) struct Segment {
    length: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Segment {
    /// Appends the key and value parts of a row of `qkv`.
    #[inline(always)]
    fn push(&mut self, heads: Heads, qkv: &[f32]) {
        let lane = self.length % BLOCK;
        let size = heads.key * heads.width * BLOCK;
        if lane == 0 {
            self.keys.resize(self.keys.len() + size, 0.0);
        }
        let (query, key) = (heads.query * heads.width, heads.key * heads.width);
        let block = self.length / BLOCK * size;
        for (column, value) in
            self.keys[block..block + size].chunks_exact_mut(BLOCK).zip(&qkv[query..query + key])
        {
            column[lane] = *value;
        }
        self.values.extend_from_slice(&qkv[query + key..query + 2 * key]);
        self.length += 1;
    }

    /// Positions held.
    pub(crate) fn length(&self) -> usize {
        self.length
    }
}

/// What turns the rows of a projection into cached keys and values.
pub(crate) struct Push<'a> {
    pub(crate) heads: Heads,
    pub(crate) rotary: &'a Rotary,
    /// Weights of the norm over each query head and each key head, where the architecture has one, and its ε.
    pub(crate) query_norm: Option<&'a [f32]>,
    pub(crate) key_norm: Option<&'a [f32]>,
    pub(crate) epsilon: f32,
    /// Rows of one sequence, one position after the other from `position`.
    pub(crate) qkv: &'a mut [f32],
    pub(crate) position: usize,
    pub(crate) segment: &'a mut Segment,
}

impl Push<'_> {
    pub(crate) fn compute(self) {
        dispatch(self);
    }
}

impl Kernel for Push<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Push { heads, rotary, query_norm, key_norm, epsilon, qkv, position, segment } = self;
        let (width, query) = (heads.width, heads.query * heads.width);
        for (index, row) in qkv.chunks_exact_mut(heads.row()).enumerate() {
            // The softmax would swallow a number that is not finite. Spread over the whole row it reaches the logits, where
            // it is found and reported.
            let broken = row.iter().fold(false, |broken, value| broken | !value.is_finite());
            if broken {
                row.fill(f32::NAN);
            }
            let (queries, rest) = row.split_at_mut(query);
            for (part, weight) in [(queries, query_norm), (&mut rest[..heads.key * width], key_norm)] {
                let Some(weight) = weight else { continue };
                for head in part.chunks_exact_mut(width) {
                    // SAFETY: the processor has the features of S, and both operands are the same row.
                    let squares = unsafe { dot::<S>(head.as_ptr(), head.as_ptr(), width) };
                    let scale = 1.0 / (squares / width as f32 + epsilon).sqrt();
                    for (value, weight) in head.iter_mut().zip(weight) {
                        *value = *value * scale * weight;
                    }
                }
            }
            rotary.turn(row, heads.query + heads.key, position + index, 1.0);
            segment.push(heads, row);
        }
    }
}

/// What a row attends to: `visible` positions, those of the prefix first.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) prefix: Option<&'a Segment>,
    pub(crate) tail: &'a Segment,
    pub(crate) visible: usize,
}

/// Attention of consecutive rows in one key head, all with the same prefix.
pub(crate) struct Attend<'a> {
    pub(crate) heads: Heads,
    pub(crate) head: usize,
    /// The rows, `[rows, row]`, keys pushed already.
    pub(crate) qkv: &'a [f32],
    /// One a row.
    pub(crate) views: &'a [View<'a>],
    /// Whether all rows belong to one sequence and so share the tail as well.
    pub(crate) together: bool,
    /// `[rows, query · width]`; this head's columns are written, from row `first` on.
    pub(crate) out: Disjoint<'a>,
    pub(crate) first: usize,
}

impl Attend<'_> {
    /// Computes it on this thread.
    ///
    /// # Safety
    /// No other thread writes or reads this head's columns of these rows meanwhile.
    pub(crate) unsafe fn compute(self) {
        dispatch(self);
    }
}

thread_local! {
    /// Scores, queries and sums of a thread's current task.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Kernel for Attend<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Taken out and put back: a closure would not be compiled for the processor's features.
        let mut scratch = SCRATCH.take();
        // SAFETY: passed on from the caller.
        unsafe { self.with_scratch::<S>(&mut scratch) }
        SCRATCH.set(scratch);
    }
}

/// `m` rows of queries (or scores) against a part of a segment.
struct Part<'a> {
    heads: Heads,
    head: usize,
    segment: &'a Segment,
    m: usize,
    /// Positions of the segment that count.
    count: usize,
}

impl Part<'_> {
    /// `scores[m, line] = queries[m, width] · keys`, for `count` positions.
    ///
    /// # Safety
    /// The processor has the features of `S`.
    #[inline(always)]
    unsafe fn scores<S: Simd>(&self, queries: &[f32], scores: &mut [f32], line: usize) {
        let (width, size) = (self.heads.width, self.heads.key * self.heads.width * BLOCK);
        for first in (0..self.count).step_by(BLOCK) {
            let keys =
                &self.segment.keys[first / BLOCK * size + self.head * width * BLOCK..][..width * BLOCK];
            let product = Product {
                m: self.m,
                n: BLOCK.min(self.count - first),
                k: width,
                a: Strided::rows(queries, width),
                b: keys,
                b_row: BLOCK,
                out: &mut scores[first..],
                out_row: line,
                accumulate: false,
            };
            // SAFETY: passed on from the caller.
            unsafe { product.with::<S>() };
        }
    }

    /// `sums[m, width] += scores[m, line] · values`.
    ///
    /// # Safety
    /// The processor has the features of `S`.
    #[inline(always)]
    unsafe fn values<S: Simd>(&self, scores: &[f32], line: usize, sums: &mut [f32]) {
        let width = self.heads.width;
        let product = Product {
            m: self.m,
            n: width,
            k: self.count,
            a: Strided::rows(scores, line),
            b: &self.segment.values[self.head * width..],
            b_row: self.heads.key * width,
            out: sums,
            out_row: width,
            accumulate: true,
        };
        // SAFETY: passed on from the caller.
        unsafe { product.with::<S>() }
    }
}

impl Attend<'_> {
    /// First query row and part of a tail.
    #[inline(always)]
    fn tail(&self, index: usize, m: usize, longest: usize, ahead: usize) -> (usize, Part<'_>) {
        let (heads, view, group) = (self.heads, &self.views[index], self.heads.group());
        let (m, visible) = if self.together { (m, longest) } else { (group, view.visible) };
        (index * group, Part { heads, head: self.head, segment: view.tail, m, count: visible - ahead })
    }

    /// # Safety
    /// As [`Attend::compute`], and the processor has the features of `S`.
    #[inline(always)]
    unsafe fn with_scratch<S: Simd>(&self, scratch: &mut Vec<f32>) {
        let Attend { heads, head, qkv, views, together, out, first } = *self;
        let (width, group) = (heads.width, heads.group());
        let m = views.len() * group;
        let prefix = views.first().and_then(|view| view.prefix);
        let ahead = prefix.map_or(0, Segment::length);
        let Some(longest) = views.iter().map(|view| view.visible).max() else { return };
        assert!(views.iter().all(|view| view.visible > ahead && view.visible <= ahead + view.tail.length));
        let line = longest.next_multiple_of(16);
        scratch.clear();
        scratch.resize(m * (line + 2 * width), 0.0);
        let (scores, rest) = scratch.split_at_mut(m * line);
        let (queries, sums) = rest.split_at_mut(m * width);
        for (target, row) in queries.chunks_exact_mut(group * width).zip(qkv.chunks_exact(heads.row())) {
            target.copy_from_slice(&row[head * group * width..(head + 1) * group * width]);
        }
        // All query rows meet the prefix; the tail they meet all together, or each its own.
        let shared = prefix.map(|segment| Part { heads, head, segment, m, count: ahead });
        let tails = if together { 1 } else { views.len() };
        // SAFETY: the processor has the features of S.
        unsafe {
            if let Some(part) = &shared {
                part.scores::<S>(queries, scores, line);
            }
            for index in 0..tails {
                let (at, part) = self.tail(index, m, longest, ahead);
                part.scores::<S>(&queries[at * width..], &mut scores[at * line + ahead..], line);
            }
            for (index, scores) in scores.chunks_exact_mut(line).enumerate() {
                let (seen, unseen) = scores.split_at_mut(views[index / group].visible);
                let peak = largest::<S>(seen) * heads.scale();
                let total = exponentials::<S>(seen, heads.scale(), peak);
                // Later positions of the same sequence weigh nothing.
                unseen.fill(0.0);
                // The queries have been used, and their first number keeps the total.
                queries[index * width] = total;
            }
            if let Some(part) = &shared {
                part.values::<S>(scores, line, sums);
            }
            for index in 0..tails {
                let (at, part) = self.tail(index, m, longest, ahead);
                part.values::<S>(&scores[at * line + ahead..], line, &mut sums[at * width..]);
            }
        }
        for (index, sums) in sums.chunks_exact(group * width).enumerate() {
            let at = (first + index) * heads.out() + head * group * width;
            // SAFETY: the caller gave this thread these columns of these rows.
            let target = unsafe { out.part(at, group * width) };
            for (query, (target, sums)) in
                target.chunks_exact_mut(width).zip(sums.chunks_exact(width)).enumerate()
            {
                let total = queries[(index * group + query) * width];
                for (target, sum) in target.iter_mut().zip(sums) {
                    *target = sum / total;
                }
            }
        }
    }
}
