//! Causal grouped-query attention over packed sequences, in blocks, with the log-sum-exp kept for the backward pass.
//!
//! The rows of `qkv` hold all query heads, then all key heads, then all value heads of a token. Probabilities exist for one
//! block of queries and keys at a time (FlashAttention; Dao et al., 2022) and are recomputed from the log-sum-exp.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::matmul::{Product, Strided};
use super::rows::{dot, lanes};
use super::simd::{Kernel, Simd, dispatch};

/// Queries in a block.
const QUERIES: usize = 32;
/// Keys in a block.
const KEYS: usize = 96;

/// The sizes of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads.
    pub(crate) key: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

impl Heads {
    /// Numbers in a row of `qkv`.
    pub(crate) fn row(&self) -> usize {
        (self.query + 2 * self.key) * self.width
    }

    /// Numbers in a row of the output.
    pub(crate) fn out(&self) -> usize {
        self.query * self.width
    }

    pub(crate) fn group(&self) -> usize {
        self.query / self.key
    }

    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

/// A slice that several threads write at places that never overlap.
#[derive(Clone, Copy)]
struct Shared {
    data: *mut f32,
    length: usize,
}
// SAFETY: the functions below give every task its own queries of its own head and sequence, so that no number is written
// twice.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(data: &mut [f32]) -> Shared {
        Shared { data: data.as_mut_ptr(), length: data.len() }
    }

    /// `count` numbers at `at`.
    ///
    /// # Safety
    /// No other part that is alive overlaps them.
    #[allow(clippy::mut_from_ref, reason = "disjoint parts, as the contract says")]
    unsafe fn part(&self, at: usize, count: usize) -> &mut [f32] {
        assert!(at + count <= self.length);
        // SAFETY: inside the slice by the assertion, alone by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), count) }
    }
}

/// Queries of one head of one sequence: what one thread does at a time.
#[derive(Clone, Copy)]
struct Task {
    /// Where the sequence starts and ends, in tokens of the batch.
    start: usize,
    end: usize,
    /// The query head.
    head: usize,
    /// The queries, counted within the sequence.
    first: usize,
    last: usize,
}

/// Queries of a task at most: a head of a long sequence is shared by several threads.
const TASK: usize = 256;

/// The tasks of some sequences, a head's queries one after the other. They depend on the lengths alone and not on the
/// number of threads, so that sums over them are always the same.
fn tasks(offsets: &[u32], heads: Heads) -> Vec<Task> {
    let mut tasks = Vec::new();
    for pair in offsets.windows(2) {
        let (start, end) = (pair[0] as usize, pair[1] as usize);
        for head in 0..heads.query {
            for first in (0..end - start).step_by(TASK) {
                tasks.push(Task { start, end, head, first, last: (first + TASK).min(end - start) });
            }
        }
    }
    tasks
}

/// Part of every row of a batch as columns, for each sequence and key head a matrix `[width][length]`.
fn columns(rows: &[f32], part: usize, offsets: &[u32], heads: Heads) -> Buffer {
    let (row, width) = (heads.row(), heads.width);
    let tokens = rows.len() / row.max(1);
    let mut columns = Buffer::new(tokens * heads.key * width);
    let mut left = &mut columns[..];
    let mut matrices = Vec::new();
    for pair in offsets.windows(2) {
        let (start, end) = (pair[0] as usize, pair[1] as usize);
        for head in 0..heads.key {
            let (matrix, rest) = left.split_at_mut((end - start) * width);
            if start < end {
                matrices.push((&rows[start * row + part + head * width..], end - start, matrix));
            }
            left = rest;
        }
    }
    matrices.into_par_iter().for_each(|(rows, length, matrix)| transpose(rows, row, width, length, matrix));
    columns
}

impl Task {
    /// Where the columns of this task's key head begin.
    fn columns(&self, heads: Heads) -> usize {
        let length = self.end - self.start;
        (self.start * heads.key + self.head / heads.group() * length) * heads.width
    }
}

/// Writes `out` (`[tokens, query·width]`) and, for the backward pass, `log_sum_exp` (`[tokens, query]`).
pub(crate) fn forward(qkv: &[f32], offsets: &[u32], heads: Heads, out: &mut [f32], log_sum_exp: &mut [f32]) {
    let keys = columns(qkv, heads.query * heads.width, offsets, heads);
    let (out, log_sum_exp) = (Shared::new(out), Shared::new(log_sum_exp));
    tasks(offsets, heads).into_par_iter().for_each(|task| {
        dispatch(Forward { qkv, keys: &keys, task, heads, out, log_sum_exp });
    });
}

/// Copies `length` rows of `width` numbers into columns: `to[d][j] = from[j][d]`.
#[inline(always)]
fn transpose(from: &[f32], row: usize, width: usize, length: usize, to: &mut [f32]) {
    for (d, line) in to.chunks_exact_mut(length).enumerate().take(width) {
        for (value, source) in line.iter_mut().zip(from.chunks(row)) {
            *value = source[d];
        }
    }
}

struct Forward<'a> {
    qkv: &'a [f32],
    keys: &'a [f32],
    task: Task,
    heads: Heads,
    out: Shared,
    log_sum_exp: Shared,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Forward { qkv, keys, task, heads, out, log_sum_exp } = self;
        let (start, length, width, row) = (task.start, task.end - task.start, heads.width, heads.row());
        let sequence = &qkv[start * row..task.end * row];
        let value_at = (heads.query + heads.key + task.head / heads.group()) * width;
        let keys = &keys[task.columns(heads)..][..width * length];
        let mut scores = vec![0.0; QUERIES * KEYS];
        let mut sums = vec![0.0; QUERIES * width];
        let query_head = task.head;
        for first in (task.first..task.last).step_by(QUERIES) {
            let queries = QUERIES.min(task.last - first);
            let mut peak = [f32::MIN; QUERIES];
            let mut total = [0.0f32; QUERIES];
            sums.fill(0.0);
            for key in (0..first + queries).step_by(KEYS) {
                let count = KEYS.min(first + queries - key);
                // SAFETY: the processor has the features of S; every row below is inside its buffer.
                unsafe {
                    Product {
                        m: queries,
                        n: count,
                        k: width,
                        a: Strided::rows(&sequence[first * row + query_head * width..], row),
                        b: &keys[key..],
                        b_row: length,
                        out: &mut scores,
                        out_row: KEYS,
                        accumulate: false,
                    }
                    .with::<S>();
                    for query in 0..queries {
                        let visible = (first + query + 1).saturating_sub(key).min(count);
                        let line = &mut scores[query * KEYS..query * KEYS + count];
                        if visible == 0 {
                            line.fill(0.0);
                            continue;
                        }
                        let block_peak = largest::<S>(&line[..visible]) * heads.scale();
                        let new_peak = peak[query].max(block_peak);
                        let shrink = (peak[query] - new_peak).exp();
                        if shrink != 1.0 {
                            for value in &mut sums[query * width..(query + 1) * width] {
                                *value *= shrink;
                            }
                        }
                        line[visible..].fill(0.0);
                        let sum = exponentials::<S>(&mut line[..visible], heads.scale(), new_peak);
                        total[query] = total[query] * shrink + sum;
                        peak[query] = new_peak;
                    }
                    Product {
                        m: queries,
                        n: width,
                        k: count,
                        a: Strided::rows(&scores, KEYS),
                        b: &sequence[key * row + value_at..],
                        b_row: row,
                        out: &mut sums,
                        out_row: width,
                        accumulate: true,
                    }
                    .with::<S>();
                }
            }
            for query in 0..queries {
                let token = start + first + query;
                // SAFETY: this task alone writes these queries of this head.
                let (target, kept) = unsafe {
                    (
                        out.part(token * heads.out() + query_head * width, width),
                        log_sum_exp.part(token * heads.query + query_head, 1),
                    )
                };
                for (target, sum) in target.iter_mut().zip(&sums[query * width..]) {
                    *target = sum / total[query];
                }
                kept[0] = peak[query] + total[query].ln();
            }
        }
    }
}

/// Largest number of a row.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
pub(super) unsafe fn largest<S: Simd>(line: &[f32]) -> f32 {
    let mut tail = f32::MIN;
    // SAFETY: no lane beyond the row is touched.
    unsafe {
        let mut best = S::splat(f32::MIN);
        lanes!(S, line.len(), at => best = S::max(best, S::load(line.as_ptr().add(at))),
            count => for value in &line[at..at + count] { tail = tail.max(*value); });
        S::largest(best).max(tail)
    }
}

/// Replaces each x by e^(x·scale − shift) and gives back the sum.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
pub(super) unsafe fn exponentials<S: Simd>(line: &mut [f32], scale: f32, shift: f32) -> f32 {
    let length = line.len();
    let line = line.as_mut_ptr();
    // SAFETY: no lane beyond the row is touched.
    unsafe {
        let mut sum = S::splat(0.0);
        let (scale, shift) = (S::splat(scale), S::splat(-shift));
        let mut tail = 0.0;
        lanes!(S, length, at => {
            let value = S::exp(S::fma(S::load(line.add(at)), scale, shift));
            S::store(line.add(at), value);
            sum = S::add(sum, value);
        }, count => {
            let value = S::exp(S::fma(S::load_partial(line.add(at), count), scale, shift));
            S::store_partial(line.add(at), value, count);
            for index in at..at + count {
                tail += *line.add(index);
            }
        });
        S::sum(sum) + tail
    }
}

/// What the forward pass saw and made.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a> {
    pub(crate) qkv: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) log_sum_exp: &'a [f32],
}

/// Writes the gradient of `qkv` from the gradient of the output.
///
/// Every task sums the gradients of its keys and values for itself; then they are added in the order of the tasks.
/// Sequences are taken a few at a time, so that these sums stay small.
pub(crate) fn backward(saved: Saved<'_>, dout: &[f32], offsets: &[u32], heads: Heads, dqkv: &mut [f32]) {
    let (row, width) = (heads.row(), heads.width);
    let keys = columns(saved.qkv, heads.query * width, offsets, heads);
    let values = columns(saved.qkv, (heads.query + heads.key) * width, offsets, heads);
    let dqkv = Shared::new(dqkv);
    let enough = 4 * rayon::current_num_threads();
    let mut offsets = offsets;
    while offsets.len() > 1 {
        let mut count = 1;
        let mut waiting = tasks(&offsets[..2], heads);
        while waiting.len() < enough && count + 1 < offsets.len() {
            waiting.extend(tasks(&offsets[count..count + 2], heads));
            count += 1;
        }
        offsets = &offsets[count..];
        let sums: Vec<Buffer> = waiting
            .par_iter()
            .map(|&task| {
                let mut sums = Buffer::new(2 * task.last * width);
                sums.fill(0.0);
                let (dkeys, dvalues) = sums.split_at_mut(task.last * width);
                let (keys, values) = (&keys[..], &values[..]);
                dispatch(Backward { saved, keys, values, dout, task, heads, dqkv, dkeys, dvalues });
                sums
            })
            .collect();
        // The tasks of a key head follow each other.
        let same = |(a, _): &(&Task, &Buffer), (b, _): &(&Task, &Buffer)| {
            (a.start, a.head / heads.group()) == (b.start, b.head / heads.group())
        };
        let parts: Vec<(&Task, &Buffer)> = waiting.iter().zip(&sums).collect();
        parts.par_chunk_by(same).for_each(|parts| {
            let task = parts[0].0;
            let key_at = (heads.query + task.head / heads.group()) * width;
            for token in 0..task.end - task.start {
                for (half, at) in [key_at, key_at + heads.key * width].into_iter().enumerate() {
                    // SAFETY: this key head of this sequence is written here alone.
                    let target = unsafe { dqkv.part((task.start + token) * row + at, width) };
                    target.fill(0.0);
                    // Queries see the keys before them: earlier parts end before the later keys.
                    for (_, sums) in parts.iter().filter(|(part, _)| token < part.last) {
                        let source = &sums[half * sums.len() / 2 + token * width..][..width];
                        for (target, value) in target.iter_mut().zip(source) {
                            *target += value;
                        }
                    }
                }
            }
        });
    }
}

struct Backward<'a> {
    saved: Saved<'a>,
    keys: &'a [f32],
    values: &'a [f32],
    dout: &'a [f32],
    task: Task,
    heads: Heads,
    dqkv: Shared,
    /// `[keys that these queries see, width]`, added to; zeros at first.
    dkeys: &'a mut [f32],
    dvalues: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Backward { saved, keys, values, dout, task, heads, dqkv, dkeys, dvalues } = self;
        let (start, end, query_head) = (task.start, task.end, task.head);
        let (length, width, row) = (end - start, heads.width, heads.row());
        let sequence = &saved.qkv[start * row..end * row];
        let dsequence = &dout[start * heads.out()..end * heads.out()];
        let key_at = (heads.query + query_head / heads.group()) * width;
        let keys = &keys[task.columns(heads)..][..width * length];
        let values = &values[task.columns(heads)..][..width * length];
        let mut probabilities = vec![0.0; QUERIES * KEYS];
        let mut dscores = vec![0.0; QUERIES * KEYS];
        let mut dqueries = vec![0.0; QUERIES * width];
        let query_at = query_head * width;
        for first in (task.first..task.last).step_by(QUERIES) {
            let queries = QUERIES.min(task.last - first);
            dqueries.fill(0.0);
            // Row sums of dO ∘ O, the correction of the softmax gradient.
            let mut correction = [0.0f32; QUERIES];
            for (query, correction) in correction.iter_mut().enumerate().take(queries) {
                let at = (start + first + query) * heads.out() + query_at;
                // SAFETY: both rows are `width` long.
                *correction = unsafe {
                    dot::<S>(saved.out[at..at + width].as_ptr(), dout[at..at + width].as_ptr(), width)
                };
            }
            for key in (0..first + queries).step_by(KEYS) {
                let count = KEYS.min(first + queries - key);
                let query_rows = Strided::rows(&sequence[first * row + query_at..], row);
                let dout_rows = &dsequence[first * heads.out() + query_at..];
                // SAFETY: the processor has the features of S; every row below is inside its buffer.
                unsafe {
                    Product {
                        m: queries,
                        n: count,
                        k: width,
                        a: query_rows,
                        b: &keys[key..],
                        b_row: length,
                        out: &mut probabilities,
                        out_row: KEYS,
                        accumulate: false,
                    }
                    .with::<S>();
                    Product {
                        m: queries,
                        n: count,
                        k: width,
                        a: Strided::rows(dout_rows, heads.out()),
                        b: &values[key..],
                        b_row: length,
                        out: &mut dscores,
                        out_row: KEYS,
                        accumulate: false,
                    }
                    .with::<S>();
                    for (query, correction) in correction.iter().enumerate().take(queries) {
                        let visible = (first + query + 1).saturating_sub(key).min(count);
                        let token = start + first + query;
                        let line = query * KEYS..query * KEYS + count;
                        let (line, dline) = (&mut probabilities[line.clone()], &mut dscores[line]);
                        line[visible..].fill(0.0);
                        dline[visible..].fill(0.0);
                        score_gradients::<S>(
                            &mut line[..visible],
                            &mut dline[..visible],
                            heads.scale(),
                            saved.log_sum_exp[token * heads.query + query_head],
                            *correction,
                        );
                    }
                    Product {
                        m: queries,
                        n: width,
                        k: count,
                        a: Strided::rows(&dscores, KEYS),
                        b: &sequence[key * row + key_at..],
                        b_row: row,
                        out: &mut dqueries,
                        out_row: width,
                        accumulate: true,
                    }
                    .with::<S>();
                    Product {
                        m: count,
                        n: width,
                        k: queries,
                        a: Strided::rows(&dscores, KEYS).transposed(),
                        b: &sequence[first * row + query_at..],
                        b_row: row,
                        out: &mut dkeys[key * width..],
                        out_row: width,
                        accumulate: true,
                    }
                    .with::<S>();
                    Product {
                        m: count,
                        n: width,
                        k: queries,
                        a: Strided::rows(&probabilities, KEYS).transposed(),
                        b: dout_rows,
                        b_row: heads.out(),
                        out: &mut dvalues[key * width..],
                        out_row: width,
                        accumulate: true,
                    }
                    .with::<S>();
                }
            }
            for query in 0..queries {
                // SAFETY: this task alone writes these queries of this head.
                let target = unsafe { dqkv.part((start + first + query) * row + query_at, width) };
                target.copy_from_slice(&dqueries[query * width..(query + 1) * width]);
            }
        }
    }
}

/// Turns scores into probabilities, and gradients of probabilities into gradients of unscaled scores:
/// P = e^(S·scale − lse), dS = P · (dP − correction) · scale.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
unsafe fn score_gradients<S: Simd>(
    line: &mut [f32],
    dline: &mut [f32],
    scale: f32,
    log_sum_exp: f32,
    correction: f32,
) {
    let length = line.len().min(dline.len());
    let (line, dline) = (line.as_mut_ptr(), dline.as_mut_ptr());
    // SAFETY: no lane beyond the rows is touched.
    unsafe {
        let (scale, shift, correction) = (S::splat(scale), S::splat(-log_sum_exp), S::splat(correction));
        lanes!(S, length, at => {
            let p = S::exp(S::fma(S::load(line.add(at)), scale, shift));
            let d = S::mul(S::mul(p, S::sub(S::load(dline.add(at)), correction)), scale);
            S::store(line.add(at), p);
            S::store(dline.add(at), d);
        }, count => {
            let p = S::exp(S::fma(S::load_partial(line.add(at), count), scale, shift));
            let d = S::mul(S::mul(p, S::sub(S::load_partial(dline.add(at), count), correction)), scale);
            S::store_partial(line.add(at), p, count);
            S::store_partial(dline.add(at), d, count);
        });
    }
}
