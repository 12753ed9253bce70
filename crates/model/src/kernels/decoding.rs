//! Products of few rows with a weight that is read once, for sampling.
//!
//! A large weight lies as it does in the checkpoint, one output after the other, so that nothing has to be laid out anew.
//! The inner dimension runs along the lanes: each pair of row and output has a register of its own, to which the inputs are
//! added in order, and whose lanes are added up at the end. Where the inner dimension is short, that end costs as much as
//! the rest, and the weights are small: these are laid out in panels, whose outputs run along the lanes.
//!
//! Either way the order of additions is the same whatever the number of rows, so that a row's result does not depend on the
//! rows computed beside it. Sampling relies on that.

use half::bf16;

use super::matmul::{Product, Strided};
use super::simd::{Kernel, Simd, dispatch};

/// Outputs in a panel: a multiple of every tile width.
pub(crate) const PANEL: usize = 48;
/// Rows that meet a panel at a time.
const PANEL_ROWS: usize = 64;

/// A slice that several threads write at places that never overlap.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a> {
    data: *mut f32,
    length: usize,
    life: std::marker::PhantomData<&'a mut [f32]>,
}
// SAFETY: whoever takes a part promises that no other part overlaps it; apart from that this is a mutable slice.
unsafe impl Send for Disjoint<'_> {}
// SAFETY: as above.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Disjoint<'a> {
        Disjoint { data: data.as_mut_ptr(), length: data.len(), life: std::marker::PhantomData }
    }

    /// `count` numbers at `at`.
    ///
    /// # Safety
    /// No other part that is alive overlaps them.
    pub(crate) unsafe fn part(&self, at: usize, count: usize) -> &'a mut [f32] {
        assert!(at + count <= self.length);
        // SAFETY: inside the slice by the assertion, alone by the contract.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), count) }
    }
}

/// Some outputs of a weight, `inputs` numbers each.
#[derive(Clone, Copy)]
pub(crate) enum WeightRows<'a> {
    /// As trained.
    Float32(&'a [f32]),
    /// As trained, in panels of [`PANEL`] outputs, of which the last one holds fewer: so many outputs in all.
    Panels(&'a [f32], usize),
    /// Rounded to bfloat16.
    Bfloat16(&'a [bf16]),
    /// Rounded to 255 steps; one step an output.
    Int8(&'a [i8], &'a [f32]),
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing.
    Zero,
    /// One number an output.
    Bias(&'a [f32]),
    /// What stands in the output.
    Output,
}

/// `out[row, at + o] = start + Σ x[row, i] · weight[o, i]`.
pub(crate) struct Multiply<'a> {
    /// `[rows, inputs]`
    pub(crate) x: &'a [f32],
    pub(crate) inputs: usize,
    pub(crate) weight: WeightRows<'a>,
    pub(crate) start: Start<'a>,
    /// Rows `out_row` apart; this product writes the columns from `at`.
    pub(crate) out: Disjoint<'a>,
    pub(crate) out_row: usize,
    pub(crate) at: usize,
}

impl Multiply<'_> {
    /// Computes it on this thread.
    ///
    /// # Safety
    /// No other thread writes or reads these columns of `out` meanwhile.
    pub(crate) unsafe fn compute(self) {
        dispatch(self);
    }
}

/// A number type of weights.
trait Element: Copy {
    /// # Safety
    /// `from` is valid for the lanes of `S`, and the processor has its features.
    unsafe fn load<S: Simd>(from: *const Self) -> S::V;
    /// # Safety
    /// `from` is valid for `count` numbers, fewer than the lanes of `S`, and the processor has its features.
    unsafe fn load_partial<S: Simd>(from: *const Self, count: usize) -> S::V;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f32) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(from: *const f32, count: usize) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { S::load_partial(from, count) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const bf16) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { S::load_bfloat16(from) }
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(from: *const bf16, count: usize) -> S::V {
        let mut whole = [bf16::ZERO; 16];
        // SAFETY: `count` numbers are there, and the copy is as long as the widest register.
        unsafe {
            std::ptr::copy_nonoverlapping(from, whole.as_mut_ptr(), count);
            S::load_bfloat16(whole.as_ptr())
        }
    }
}

impl Element for i8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const i8) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { S::load_byte(from) }
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(from: *const i8, count: usize) -> S::V {
        let mut whole = [0; 16];
        // SAFETY: `count` numbers are there, and the copy is as long as the widest register.
        unsafe {
            std::ptr::copy_nonoverlapping(from, whole.as_mut_ptr(), count);
            S::load_byte(whole.as_ptr())
        }
    }
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let inputs = self.inputs.max(1);
        let rows = self.x.len() / inputs;
        let (length, scales) = match self.weight {
            WeightRows::Float32(weight) => (weight.len(), None),
            WeightRows::Panels(panels, outputs) => {
                assert_eq!(panels.len(), outputs.next_multiple_of(PANEL) * inputs);
                (outputs * inputs, None)
            }
            WeightRows::Bfloat16(weight) => (weight.len(), None),
            WeightRows::Int8(weight, scales) => (weight.len(), Some(scales)),
        };
        let outputs = length / inputs;
        if rows == 0 || outputs == 0 {
            return;
        }
        assert!(
            self.at + outputs <= self.out_row
                && (rows - 1) * self.out_row + self.at + outputs <= self.out.length
        );
        assert!(scales.is_none_or(|scales| scales.len() == outputs));
        if let Start::Bias(bias) = self.start {
            assert_eq!(bias.len(), outputs);
        }
        let sums = Sums { scales, start: self.start, out: self.out, out_row: self.out_row, at: self.at };
        // SAFETY: the assertions above prove that every number that is touched lies in its slice; the features and the
        // columns of `out` are the caller's promise.
        unsafe {
            match self.weight {
                WeightRows::Panels(panels, _) => sums.panels::<S>(self.x, panels, rows, outputs, inputs),
                WeightRows::Float32(weight) => sums.all::<S, f32>(self.x, weight, rows, outputs, inputs),
                WeightRows::Bfloat16(weight) => sums.all::<S, bf16>(self.x, weight, rows, outputs, inputs),
                WeightRows::Int8(weight, _) => sums.all::<S, i8>(self.x, weight, rows, outputs, inputs),
            }
        }
    }
}

/// Where finished sums go.
#[derive(Clone, Copy)]
struct Sums<'a> {
    scales: Option<&'a [f32]>,
    start: Start<'a>,
    out: Disjoint<'a>,
    out_row: usize,
    at: usize,
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "`Kernel::run` has checked every bound of the call")]
#[allow(clippy::needless_range_loop, reason = "the loops unroll over registers")]
impl Sums<'_> {
    /// # Safety
    /// The bounds have been checked and the processor has the features of `S`.
    #[inline(always)]
    unsafe fn panels<S: Simd>(self, x: &[f32], panels: &[f32], rows: usize, outputs: usize, inputs: usize) {
        let mut part = [0.0; PANEL_ROWS * PANEL];
        for (panel, numbers) in panels.chunks_exact(PANEL * inputs).enumerate() {
            let first = panel * PANEL;
            let count = PANEL.min(outputs - first);
            for row in (0..rows).step_by(PANEL_ROWS) {
                let product = Product {
                    m: PANEL_ROWS.min(rows - row),
                    n: count,
                    k: inputs,
                    a: Strided::rows(&x[row * inputs..], inputs),
                    b: numbers,
                    b_row: PANEL,
                    out: &mut part,
                    out_row: PANEL,
                    accumulate: false,
                };
                let rows = row..row + product.m;
                unsafe { product.with::<S>() };
                for (row, sums) in rows.zip(part.chunks_exact(PANEL)) {
                    unsafe {
                        let to = self.out.data.add(row * self.out_row + self.at + first);
                        if count == PANEL {
                            self.finish::<PANEL>(*sums.first_chunk().unwrap_unchecked(), first, to);
                        } else {
                            for output in 0..count {
                                self.finish::<1>([sums[output]], first + output, to.add(output));
                            }
                        }
                    }
                }
            }
        }
    }

    /// # Safety
    /// The bounds have been checked and the processor has the features of `S`.
    #[inline(always)]
    unsafe fn all<S: Simd, E: Element>(
        self,
        x: &[f32],
        weight: &[E],
        rows: usize,
        outputs: usize,
        inputs: usize,
    ) {
        let (x, weight) = (x.as_ptr(), weight.as_ptr());
        let mut row = 0;
        while row < rows {
            // As many rows as leave room in the registers: with four outputs, 24 sums of 32 registers, or 8 of 16.
            let left = rows - row;
            unsafe {
                let x = x.add(row * inputs);
                if S::LANES == 16 && left >= 6 {
                    self.outputs::<S, E, 6>(x, weight, row, outputs, inputs);
                    row += 6;
                } else if S::LANES == 16 && left >= 4 {
                    self.outputs::<S, E, 4>(x, weight, row, outputs, inputs);
                    row += 4;
                } else if left >= 2 {
                    self.outputs::<S, E, 2>(x, weight, row, outputs, inputs);
                    row += 2;
                } else {
                    self.outputs::<S, E, 1>(x, weight, row, outputs, inputs);
                    row += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn outputs<S: Simd, E: Element, const R: usize>(
        self,
        x: *const f32,
        weight: *const E,
        row: usize,
        outputs: usize,
        inputs: usize,
    ) {
        let mut output = 0;
        unsafe {
            if R == 1 {
                while output + 8 <= outputs {
                    self.tile::<S, E, R, 8>(x, weight.add(output * inputs), row, output, 8, inputs);
                    output += 8;
                }
            }
            while output < outputs {
                let count = (outputs - output).min(4);
                self.tile::<S, E, R, 4>(x, weight.add(output * inputs), row, output, count, inputs);
                output += count;
            }
        }
    }

    /// Scales N sums, adds what they begin with, and puts them where they go.
    #[inline(always)]
    unsafe fn finish<const N: usize>(self, mut sums: [f32; N], output: usize, to: *mut f32) {
        unsafe {
            if let Some(scales) = self.scales {
                let scales = scales.as_ptr().add(output);
                for n in 0..N {
                    sums[n] *= *scales.add(n);
                }
            }
            match self.start {
                Start::Zero => {}
                Start::Bias(bias) => {
                    let bias = bias.as_ptr().add(output);
                    for n in 0..N {
                        sums[n] += *bias.add(n);
                    }
                }
                Start::Output => {
                    for n in 0..N {
                        sums[n] += *to.add(n);
                    }
                }
            }
            to.cast::<[f32; N]>().write_unaligned(sums);
        }
    }

    /// R rows with C outputs, of which `count` are there.
    #[inline(always)]
    unsafe fn tile<S: Simd, E: Element, const R: usize, const C: usize>(
        self,
        x: *const f32,
        weight: *const E,
        row: usize,
        output: usize,
        count: usize,
        inputs: usize,
    ) {
        unsafe {
            // A missing output reads the last one again, and its sum is thrown away.
            let lines: [*const E; C] = std::array::from_fn(|c| weight.add(c.min(count - 1) * inputs));
            let mut sums = [[S::splat(0.0); C]; R];
            let whole = inputs - inputs % S::LANES;
            let mut at = 0;
            while at < whole {
                let mut columns = [S::splat(0.0); C];
                for c in 0..C {
                    columns[c] = E::load::<S>(lines[c].add(at));
                }
                for r in 0..R {
                    let value = S::load(x.add(r * inputs + at));
                    for c in 0..C {
                        sums[r][c] = S::fma(value, columns[c], sums[r][c]);
                    }
                }
                at += S::LANES;
            }
            if whole < inputs {
                let left = inputs - whole;
                for r in 0..R {
                    let value = S::load_partial(x.add(r * inputs + whole), left);
                    for c in 0..C {
                        let column = E::load_partial::<S>(lines[c].add(whole), left);
                        sums[r][c] = S::fma(value, column, sums[r][c]);
                    }
                }
            }
            for r in 0..R {
                let to = self.out.data.add((row + r) * self.out_row + self.at + output);
                for first in (0..C).step_by(4) {
                    let four = S::sum_four([
                        sums[r][first],
                        sums[r][first + 1],
                        sums[r][first + 2],
                        sums[r][first + 3],
                    ]);
                    if first + 4 <= count {
                        self.finish::<4>(four, output + first, to.add(first));
                    } else {
                        for c in first..count.max(first) {
                            self.finish::<1>([four[c - first]], output + c, to.add(c));
                        }
                    }
                }
            }
        }
    }
}

/// Lays out a weight whose rows are outputs, `inputs` numbers each: panels of 48 outputs, in each the inputs one after the
/// other.
pub(crate) fn panels(weight: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let mut panels = vec![0.0; outputs.next_multiple_of(PANEL) * inputs];
    for (output, source) in weight.chunks_exact(inputs).enumerate() {
        let panel = &mut panels[output / PANEL * PANEL * inputs..][..PANEL * inputs];
        for (line, value) in panel.chunks_exact_mut(PANEL).zip(source) {
            line[output % PANEL] = *value;
        }
    }
    panels
}

/// The nearest steps of a row, and the step: the largest number is 127 steps.
pub(crate) fn round_to_bytes(row: &[f32], bytes: &mut Vec<i8>) -> f32 {
    struct Round<'a>(&'a [f32], &'a mut Vec<i8>);
    impl Kernel for Round<'_> {
        type Output = f32;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> f32 {
            // Sixteen running maxima, so that the compiler can keep them side by side.
            let mut largest = [0.0f32; 16];
            for part in self.0.chunks(16) {
                for (largest, value) in largest.iter_mut().zip(part) {
                    *largest = if value.abs() > *largest { value.abs() } else { *largest };
                }
            }
            let step = largest.into_iter().fold(0.0, f32::max) / 127.0;
            let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
            // Added to 1.5 · 2²³, a small number is rounded to a whole one, which then stands in the lowest bits.
            let whole = |value: &f32| (value * inverse + 12_582_912.0).to_bits() as i8;
            self.1.extend(self.0.iter().map(whole));
            step
        }
    }
    dispatch(Round(row, bytes))
}

/// The nearest bfloat16 of each number, to even where two are as near.
pub(crate) fn round_to_bfloat16(numbers: &[f32]) -> Vec<bf16> {
    struct Round<'a>(&'a [f32]);
    impl Kernel for Round<'_> {
        type Output = Vec<bf16>;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> Vec<bf16> {
            let nearest = |value: &f32| {
                let bits = value.to_bits();
                let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16;
                bf16::from_bits(if value.is_nan() { 0x7FC0 } else { rounded })
            };
            self.0.iter().map(nearest).collect()
        }
    }
    dispatch(Round(numbers))
}
