//! What is done to one row at a time: norm, activation, rotary embedding, softmax.

use super::simd::{Kernel, Simd, dispatch};

/// Calls `full(at)` for whole vectors and `partial(at, count)` for the rest of `length`.
macro_rules! lanes {
    ($s:ident, $length:expr, $at:ident => $full:expr, $count:ident => $partial:expr) => {{
        let length: usize = $length;
        let mut $at = 0;
        while $at + $s::LANES <= length {
            $full;
            $at += $s::LANES;
        }
        if $at < length {
            let $count = length - $at;
            $partial;
        }
    }};
}
pub(crate) use lanes;

/// RMSNorm of rows: `out = x · rstd · weight`, `rstd = 1/√(mean(x²) + ε)`.
pub(crate) struct Norm<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let (source, weight, target) = (x.as_ptr(), self.weight.as_ptr(), out.as_mut_ptr());
            // SAFETY: the three rows are `width` long, and no lane beyond that is touched.
            unsafe {
                let rstd = S::splat(reciprocal_root_mean_square::<S>(x, self.epsilon));
                lanes!(S, width, at =>
                S::store(target.add(at), S::mul(S::mul(S::load(source.add(at)), rstd), S::load(weight.add(at)))),
                count => S::store_partial(
                    target.add(at),
                    S::mul(S::mul(S::load_partial(source.add(at), count), rstd), S::load_partial(weight.add(at), count)),
                    count
                ));
            }
        }
    }
}

/// `1/√(mean(x²) + ε)`.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
unsafe fn reciprocal_root_mean_square<S: Simd>(x: &[f32], epsilon: f32) -> f32 {
    // SAFETY: both operands are the same row.
    let squares = unsafe { dot::<S>(x.as_ptr(), x.as_ptr(), x.len()) };
    1.0 / (squares / x.len() as f32 + epsilon).sqrt()
}

/// Inner product of two rows.
///
/// # Safety
/// Both pointers are valid for `length` numbers, and the processor has the features of `S`.
#[inline(always)]
pub(crate) unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, length: usize) -> f32 {
    // SAFETY: by the contract above.
    unsafe {
        let mut sum = S::splat(0.0);
        lanes!(S, length, at => sum = S::fma(S::load(a.add(at)), S::load(b.add(at)), sum),
            count => sum = S::fma(S::load_partial(a.add(at), count), S::load_partial(b.add(at), count), sum));
        S::sum(sum)
    }
}

/// Gradient of RMSNorm: adds to `dx` and to `dweight`.
///
/// With n = x·rstd and g = dy·weight: dx = rstd · (g − n · mean(g·n)), dweight = Σ dy·n.
pub(crate) struct NormBackward<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) dy: &'a [f32],
    pub(crate) dx: &'a mut [f32],
    pub(crate) dweight: &'a mut [f32],
}

impl Kernel for NormBackward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.weight.len();
        let mut scaled = vec![0.0f32; width];
        let rows =
            self.x.chunks_exact(width).zip(self.dy.chunks_exact(width)).zip(self.dx.chunks_exact_mut(width));
        for ((x, dy), dx) in rows {
            // SAFETY: all rows are `width` long.
            unsafe {
                let rstd = reciprocal_root_mean_square::<S>(x, self.epsilon);
                for (((scaled, dy), weight), (dweight, x)) in
                    scaled.iter_mut().zip(dy).zip(self.weight).zip(self.dweight.iter_mut().zip(x))
                {
                    *scaled = dy * weight;
                    *dweight += dy * (x * rstd);
                }
                let mean = dot::<S>(scaled.as_ptr(), x.as_ptr(), width) * rstd / width as f32;
                for ((dx, x), scaled) in dx.iter_mut().zip(x).zip(&scaled) {
                    *dx += rstd * (scaled - x * rstd * mean);
                }
            }
        }
    }
}

/// SwiGLU: `out = silu(gate) · up` where each row of `gate_up` holds the gate and then the up part.
pub(crate) struct SwiGlu<'a> {
    pub(crate) gate_up: &'a [f32],
    pub(crate) width: usize,
    pub(crate) out: &'a mut [f32],
}

/// The logistic function of a vector.
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: by the contract above.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, S::exp(S::sub(S::splat(0.0), x))))
    }
}

impl Kernel for SwiGlu<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.width;
        for (row, out) in self.gate_up.chunks_exact(2 * width).zip(self.out.chunks_exact_mut(width)) {
            let (gate, up, out) = (row.as_ptr(), row[width..].as_ptr(), out.as_mut_ptr());
            // SAFETY: gate, up and out are `width` long.
            unsafe {
                lanes!(S, width, at => {
                    let g = S::load(gate.add(at));
                    S::store(out.add(at), S::mul(S::mul(g, sigmoid::<S>(g)), S::load(up.add(at))));
                }, count => {
                    let g = S::load_partial(gate.add(at), count);
                    let value = S::mul(S::mul(g, sigmoid::<S>(g)), S::load_partial(up.add(at), count));
                    S::store_partial(out.add(at), value, count);
                });
            }
        }
    }
}

/// Gradient of SwiGLU: writes the gradients of gate and up over them, and the activation once more into `out`.
pub(crate) struct SwiGluBackward<'a> {
    pub(crate) gate_up: &'a mut [f32],
    pub(crate) width: usize,
    pub(crate) dout: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Kernel for SwiGluBackward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = self.width;
        let rows = self.gate_up.chunks_exact_mut(2 * width).zip(self.dout.chunks_exact(width));
        for ((row, dout), out) in rows.zip(self.out.chunks_exact_mut(width)) {
            let (gate, up) = row.split_at_mut(width);
            let (gate, up, dout, out) = (gate.as_mut_ptr(), up.as_mut_ptr(), dout.as_ptr(), out.as_mut_ptr());
            // SAFETY: every part is `width` long.
            unsafe {
                lanes!(S, width, at => {
                    let (value, dg, du) = swiglu_gradient::<S>(S::load(gate.add(at)), S::load(up.add(at)), S::load(dout.add(at)));
                    S::store(out.add(at), value);
                    S::store(gate.add(at), dg);
                    S::store(up.add(at), du);
                }, count => {
                    let (value, dg, du) = swiglu_gradient::<S>(
                        S::load_partial(gate.add(at), count),
                        S::load_partial(up.add(at), count),
                        S::load_partial(dout.add(at), count),
                    );
                    S::store_partial(out.add(at), value, count);
                    S::store_partial(gate.add(at), dg, count);
                    S::store_partial(up.add(at), du, count);
                });
            }
        }
    }
}

/// Value and both gradients of silu(g)·u; silu'(g) = σ(g)·(1 + g·(1 − σ(g))).
///
/// # Safety
/// The processor has the features of `S`.
#[inline(always)]
unsafe fn swiglu_gradient<S: Simd>(g: S::V, u: S::V, d: S::V) -> (S::V, S::V, S::V) {
    // SAFETY: by the contract above.
    unsafe {
        let one = S::splat(1.0);
        let s = sigmoid::<S>(g);
        let silu = S::mul(g, s);
        let slope = S::mul(s, S::fma(g, S::sub(one, s), one));
        (S::mul(silu, u), S::mul(S::mul(d, u), slope), S::mul(d, silu))
    }
}

/// Cosines and sines of the rotary embedding, `[positions, head_width/2]` each.
#[derive(Debug)]
pub(crate) struct Rotary {
    half: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl Rotary {
    /// The table for `positions` positions: cosine and sine of position · frequency, times `factor`, in f32 as transformers
    /// computes them.
    pub(crate) fn new(positions: usize, frequencies: &[f32], factor: f32) -> Rotary {
        let angles = (0..positions).flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        let (cosine, sine) = angles.map(|angle| (factor * angle.cos(), factor * angle.sin())).unzip();
        Rotary { half: frequencies.len(), cosine, sine }
    }

    /// Number of positions in the table.
    pub(crate) fn positions(&self) -> usize {
        self.cosine.len() / self.half
    }

    /// Turns the `heads` heads at the start of `row`, which stands at `position`; `direction` −1 turns back.
    ///
    /// The first half of a head pairs with its second half, as in transformers.
    #[inline(always)]
    pub(crate) fn turn(&self, row: &mut [f32], heads: usize, position: usize, direction: f32) {
        let table = position * self.half..(position + 1) * self.half;
        let (cosine, sine) = (&self.cosine[table.clone()], &self.sine[table]);
        for head in row.chunks_exact_mut(2 * self.half).take(heads) {
            let (first, second) = head.split_at_mut(self.half);
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosine).zip(sine) {
                let sine = direction * sine;
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    }
}

/// Turns the first `heads` heads of every row, each at its position; `total` gets the sum of the turned rows added.
pub(crate) struct Turn<'a> {
    pub(crate) rotary: &'a Rotary,
    pub(crate) rows: &'a mut [f32],
    /// Numbers in a row.
    pub(crate) row: usize,
    pub(crate) heads: usize,
    pub(crate) positions: &'a [u32],
    /// 1 turns forth, −1 turns back.
    pub(crate) direction: f32,
    pub(crate) total: Option<&'a mut [f32]>,
}

impl Kernel for Turn<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (row, &position) in self.rows.chunks_exact_mut(self.row).zip(self.positions) {
            self.rotary.turn(row, self.heads, position as usize, self.direction);
        }
        if let Some(total) = self.total {
            for row in self.rows.chunks_exact(self.row) {
                for (total, value) in total.iter_mut().zip(row) {
                    *total += value;
                }
            }
        }
    }
}

/// Log-sum-exp of a row and the mean of its values under softmax.
pub(crate) struct LogSumExp<'a> {
    pub(crate) row: &'a [f32],
}

impl Kernel for LogSumExp<'_> {
    type Output = (f32, f32);
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let (row, length) = (self.row.as_ptr(), self.row.len());
        let lowest = f32::MIN;
        // SAFETY: no lane beyond the row is touched; lanes beyond it in a partial load are replaced below.
        unsafe {
            let mut best = S::splat(lowest);
            let mut tail = lowest;
            lanes!(S, length, at => best = S::max(best, S::load(row.add(at))),
                count => for index in at..at + count { tail = tail.max(*row.add(index)); });
            let peak = S::largest(best).max(tail);
            let shift = S::splat(peak);
            let (mut total, mut weighted) = (S::splat(0.0), S::splat(0.0));
            let (mut tail_total, mut tail_weighted) = (0.0f32, 0.0f32);
            lanes!(S, length, at => {
                let centred = S::sub(S::load(row.add(at)), shift);
                let e = S::exp(centred);
                total = S::add(total, e);
                weighted = S::fma(e, centred, weighted);
            }, count => {
                let centred = S::sub(S::load_partial(row.add(at), count), shift);
                let (e, c) = (S::to_array(S::exp(centred)), S::to_array(centred));
                for lane in 0..count {
                    tail_total += e[lane];
                    tail_weighted += e[lane] * c[lane];
                }
            });
            let total = S::sum(total) + tail_total;
            let weighted = S::sum(weighted) + tail_weighted;
            (peak + total.ln(), peak + weighted / total)
        }
    }
}

/// Gradient of log-prob and entropy with respect to a row of (tempered) logits, written over the row.
///
/// With p = softmax: d log p_t / dl_j = 1[j = t] − p_j, and dH/dl_j = −p_j (ln p_j + H). Both come times their upstream
/// gradients and `scale` (the inverse temperature). A target outside the row lies in another tile of the vocabulary.
pub(crate) struct ScoreBackward<'a> {
    pub(crate) row: &'a mut [f32],
    pub(crate) log_sum_exp: f32,
    pub(crate) entropy: f32,
    pub(crate) target: usize,
    pub(crate) d_log_prob: f32,
    pub(crate) d_entropy: f32,
    pub(crate) scale: f32,
}

impl Kernel for ScoreBackward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (row, length) = (self.row.as_mut_ptr(), self.row.len());
        // SAFETY: no lane beyond the row is touched.
        unsafe {
            let shift = S::splat(self.log_sum_exp);
            let d_entropy = S::splat(-self.d_entropy);
            let constant = S::splat(-self.d_log_prob - self.d_entropy * self.entropy);
            let scale = S::splat(self.scale);
            lanes!(S, length, at => {
                let log_prob = S::sub(S::load(row.add(at)), shift);
                let gradient = S::mul(S::exp(log_prob), S::fma(d_entropy, log_prob, constant));
                S::store(row.add(at), S::mul(gradient, scale));
            }, count => {
                let log_prob = S::sub(S::load_partial(row.add(at), count), shift);
                let gradient = S::mul(S::exp(log_prob), S::fma(d_entropy, log_prob, constant));
                S::store_partial(row.add(at), S::mul(gradient, scale), count);
            });
        }
        if let Some(gradient) = self.row.get_mut(self.target) {
            *gradient += self.d_log_prob * self.scale;
        }
    }
}

/// Runs a row kernel with the widest vectors.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    dispatch(kernel)
}

/// Replaces each x by e^(x·scale − shift); the output is the sum.
pub(crate) struct Exponentials<'a> {
    pub(crate) line: &'a mut [f32],
    pub(crate) scale: f32,
    pub(crate) shift: f32,
}

impl Kernel for Exponentials<'_> {
    type Output = f32;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        // SAFETY: passed on from the caller.
        unsafe { super::attention::exponentials::<S>(self.line, self.scale, self.shift) }
    }
}
