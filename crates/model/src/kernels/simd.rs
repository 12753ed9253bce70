//! One vector type for three kinds of processor, chosen at run time.
//!
//! A kernel is written once over [`Simd`] and runs with AVX-512, with AVX2 and FMA, or with plain arrays that the compiler
//! vectorises as it can. All trait methods are `inline(always)`, so that a kernel's whole body is compiled inside the
//! function that carries the `target_feature`.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every intrinsic below is reached only through `dispatch`, which has checked the feature"
)]

use super::matmul::Tiles;

/// Vectors of `f32`.
///
/// # Safety
/// Every method may be called only on a processor that has the features of the implementing type, and pointers must be
/// valid for the lanes that the method touches.
pub(crate) unsafe trait Simd: Copy {
    /// A register.
    type V: Copy;
    /// Numbers in a register.
    const LANES: usize;
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    /// Loads `count` ≤ LANES numbers, zeros behind them.
    unsafe fn load_partial(from: *const f32, count: usize) -> Self::V;
    unsafe fn store(to: *mut f32, value: Self::V);
    unsafe fn store_partial(to: *mut f32, value: Self::V, count: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `a · 2^n` for a whole `n` within ±127.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    unsafe fn to_array(a: Self::V) -> [f32; 16];

    /// Runs a kernel in a function of its own that is compiled for this type's features, so that it is compiled once and
    /// not once for each place that calls it.
    unsafe fn call<K: Kernel>(kernel: K) -> K::Output;
    /// Computes a matrix product in register tiles that fit this type's registers.
    unsafe fn product(tiles: Tiles, m: usize, n: usize);

    /// Widens the numbers of `LANES` bfloat16.
    #[inline(always)]
    unsafe fn load_bfloat16(from: *const half::bf16) -> Self::V {
        let lanes: [f32; 16] =
            std::array::from_fn(
                |lane| if lane < Self::LANES { unsafe { *from.add(lane) }.to_f32() } else { 0.0 },
            );
        unsafe { Self::load(lanes.as_ptr()) }
    }
    /// Widens `LANES` bytes.
    #[inline(always)]
    unsafe fn load_byte(from: *const i8) -> Self::V {
        let lanes: [f32; 16] =
            std::array::from_fn(
                |lane| if lane < Self::LANES { f32::from(unsafe { *from.add(lane) }) } else { 0.0 },
            );
        unsafe { Self::load(lanes.as_ptr()) }
    }
    /// Sums of the lanes of four registers; each the same bits as [`Simd::sum`].
    #[inline(always)]
    unsafe fn sum_four(a: [Self::V; 4]) -> [f32; 4] {
        unsafe { [Self::sum(a[0]), Self::sum(a[1]), Self::sum(a[2]), Self::sum(a[3])] }
    }

    /// Sum of the lanes, halves upon halves.
    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        let lanes = unsafe { Self::to_array(a) };
        let mut half = Self::LANES;
        let mut lanes = lanes;
        while half > 1 {
            half /= 2;
            for index in 0..half {
                lanes[index] += lanes[index + half];
            }
        }
        lanes[0]
    }

    /// Largest lane.
    #[inline(always)]
    unsafe fn largest(a: Self::V) -> f32 {
        let lanes = unsafe { Self::to_array(a) };
        lanes[..Self::LANES].iter().fold(f32::NEG_INFINITY, |best, &value| best.max(value))
    }

    /// e^x within 2 units in the last place; inputs are clamped to where the result is a normal number.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        unsafe {
            let x = Self::min(Self::max(x, Self::splat(-87.0)), Self::splat(88.0));
            let n = Self::round(Self::mul(x, Self::splat(std::f32::consts::LOG2_E)));
            // ln 2 in two parts, so that the remainder is exact.
            let r = Self::fma(n, Self::splat(-0.693_359_4), x);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            // Taylor's series to the seventh order: |r| ≤ ln2/2, so that the rest is below 1e-8.
            let mut p = Self::splat(1.0 / 5040.0);
            for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                p = Self::fma(p, r, Self::splat(coefficient));
            }
            Self::scale(p, n)
        }
    }
}

/// A computation that can run with any vector type.
pub(crate) trait Kernel {
    /// What it gives back.
    type Output;
    /// Runs it.
    ///
    /// # Safety
    /// The processor has the features of `S`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs `kernel` with the widest vectors of this processor.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        match level() {
            // SAFETY: `level` has just asked the processor for these features.
            Level::Avx512 => return unsafe { Avx512::call(kernel) },
            Level::Avx2 => return unsafe { Avx2::call(kernel) },
            Level::Plain => {}
        }
    }
    // SAFETY: plain arrays need no processor feature.
    unsafe { Plain::call(kernel) }
}

/// Which vectors [`dispatch`] uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Avx512,
    Avx2,
    Plain,
}

/// The widest level of this processor, asked once.
pub(crate) fn level() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("fma")
            {
                return Level::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Level::Avx2;
            }
        }
        Level::Plain
    })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Simd, Tiles};

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
    #[inline(never)]
    unsafe fn wide<K: Kernel>(kernel: K) -> K::Output {
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline(never)]
    unsafe fn narrow<K: Kernel>(kernel: K) -> K::Output {
        unsafe { kernel.run::<Avx2>() }
    }

    /// Sixteen numbers a register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    unsafe impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn call<K: Kernel>(kernel: K) -> K::Output {
            unsafe { wide(kernel) }
        }
        #[inline(always)]
        unsafe fn product(tiles: Tiles, m: usize, n: usize) {
            unsafe { tiles.columns::<Self, 8, 3>(m, n) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, count: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(((1u32 << count) - 1) as u16, from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m512) {
            unsafe { _mm512_storeu_ps(to, value) }
        }
        #[inline(always)]
        unsafe fn store_partial(to: *mut f32, value: __m512, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as u16, value) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn round(a: __m512) -> __m512 {
            unsafe { _mm512_roundscale_ps::<0>(a) }
        }
        #[inline(always)]
        unsafe fn scale(a: __m512, n: __m512) -> __m512 {
            unsafe { _mm512_scalef_ps(a, n) }
        }
        #[inline(always)]
        unsafe fn to_array(a: __m512) -> [f32; 16] {
            let mut lanes = [0.0; 16];
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), a) };
            lanes
        }
        #[inline(always)]
        unsafe fn load_bfloat16(from: *const half::bf16) -> __m512 {
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn load_byte(from: *const i8) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn sum_four([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
            unsafe {
                // Quarters of a register are called 0 to 3: first 0+2 and 1+3 of each, then the sum of those.
                let first =
                    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
                let second =
                    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xEE>(c, d));
                let quarters = _mm512_add_ps(
                    _mm512_shuffle_f32x4::<0x88>(first, second),
                    _mm512_shuffle_f32x4::<0xDD>(first, second),
                );
                let pairs = _mm512_add_ps(quarters, _mm512_permute_ps::<0x4E>(quarters));
                let sums = _mm512_add_ps(pairs, _mm512_permute_ps::<0xB1>(pairs));
                // Each quarter is filled with its sum.
                let firsts = _mm512_maskz_compress_ps(0x1111, sums);
                let mut four = [0.0; 4];
                _mm_storeu_ps(four.as_mut_ptr(), _mm512_castps512_ps128(firsts));
                four
            }
        }
    }

    /// Eight numbers a register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    #[inline(always)]
    unsafe fn mask(count: usize) -> __m256i {
        // A window into eight ones and eight zeros, as a mask of the first `count` lanes.
        static WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        unsafe { _mm256_loadu_si256(WINDOW.as_ptr().add(8 - count).cast()) }
    }

    unsafe impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn call<K: Kernel>(kernel: K) -> K::Output {
            unsafe { narrow(kernel) }
        }
        #[inline(always)]
        unsafe fn product(tiles: Tiles, m: usize, n: usize) {
            unsafe { tiles.columns::<Self, 4, 3>(m, n) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, count: usize) -> __m256 {
            unsafe { _mm256_maskload_ps(from, mask(count)) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m256) {
            unsafe { _mm256_storeu_ps(to, value) }
        }
        #[inline(always)]
        unsafe fn store_partial(to: *mut f32, value: __m256, count: usize) {
            unsafe { _mm256_maskstore_ps(to, mask(count), value) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn round(a: __m256) -> __m256 {
            unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        unsafe fn scale(a: __m256, n: __m256) -> __m256 {
            unsafe {
                let bits =
                    _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
                _mm256_mul_ps(a, _mm256_castsi256_ps(bits))
            }
        }
        #[inline(always)]
        unsafe fn to_array(a: __m256) -> [f32; 16] {
            let mut lanes = [0.0; 16];
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), a) };
            lanes
        }
        #[inline(always)]
        unsafe fn load_bfloat16(from: *const half::bf16) -> __m256 {
            unsafe {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            }
        }
        #[inline(always)]
        unsafe fn load_byte(from: *const i8) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn sum_four([a, b, c, d]: [__m256; 4]) -> [f32; 4] {
            unsafe {
                let first =
                    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
                let second =
                    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(c, d), _mm256_permute2f128_ps::<0x31>(c, d));
                // Each half now holds four sums that are halved twice more.
                let halve = |x| {
                    let pairs = _mm256_add_ps(x, _mm256_permute_ps::<0x4E>(x));
                    _mm256_add_ps(pairs, _mm256_permute_ps::<0xB1>(pairs))
                };
                let (first, second) = (halve(first), halve(second));
                // The halves hold a, b and c, d, each filled with its sum.
                let left = _mm_unpacklo_ps(_mm256_castps256_ps128(first), _mm256_extractf128_ps::<1>(first));
                let right =
                    _mm_unpacklo_ps(_mm256_castps256_ps128(second), _mm256_extractf128_ps::<1>(second));
                let mut four = [0.0; 4];
                _mm_storeu_ps(four.as_mut_ptr(), _mm_movelh_ps(left, right));
                four
            }
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Eight numbers in an array, for every other processor.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

#[inline(always)]
fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

unsafe impl Simd for Plain {
    type V = [f32; 8];
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn call<K: Kernel>(kernel: K) -> K::Output {
        unsafe { kernel.run::<Plain>() }
    }
    #[inline(always)]
    unsafe fn product(tiles: Tiles, m: usize, n: usize) {
        unsafe { tiles.columns::<Self, 2, 3>(m, n) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> [f32; 8] {
        std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 8]) {
        unsafe { to.cast::<[f32; 8]>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn store_partial(to: *mut f32, value: [f32; 8], count: usize) {
        for (lane, value) in value.into_iter().enumerate().take(count) {
            unsafe { *to.add(lane) = value }
        }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // Without the instruction, a fused multiply is a slow call: two roundings are the better bargain here.
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, f32::max)
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, f32::min)
    }
    #[inline(always)]
    unsafe fn round(a: [f32; 8]) -> [f32; 8] {
        a.map(|value| value.round_ties_even())
    }
    #[inline(always)]
    unsafe fn scale(a: [f32; 8], n: [f32; 8]) -> [f32; 8] {
        zip(a, n, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn to_array(a: [f32; 8]) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        lanes[..8].copy_from_slice(&a);
        lanes
    }
}
