// What every kernel shares: number types, reductions, and the tensor-core product of one warp.
//
// Compiled by NVRTC without any header, and by a C++ compiler for tests (EMULATED, see tests/shim.hpp there). Compile-time
// constants: BF16 (activations and weights are bfloat16, else float) and HEAD (the width of an attention head).

typedef unsigned int u32;
typedef unsigned long long u64;

#define KERNEL extern "C" __global__ void
#define INLINE static __device__ __forceinline__
#define WARP 32u
#define FULL 0xffffffffu

#ifndef EMULATED
// Shared memory whose size the launch gives.
#define DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    type* name = (type*)dynamic_shared
#define INFINITY_F __int_as_float(0x7f800000)
#endif

// ---- numbers -------------------------------------------------------------------------------------------------------

#ifdef BF16
struct Real {
    unsigned short bits;
};
INLINE float widen(Real number) { return __uint_as_float((u32)number.bits << 16); }
INLINE Real narrow(float number) {
    Real out;
#ifdef EMULATED
    u32 bits = __float_as_uint(number);
    // Round to nearest, ties to even; every NaN becomes the canonical one, as the instruction does.
    out.bits = (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#else
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(number));
#endif
    return out;
}
#define PACK 8
#else
typedef float Real;
INLINE float widen(Real number) { return number; }
INLINE Real narrow(float number) { return number; }
#define PACK 4
#endif

// Sixteen bytes, moved by one instruction. Every row that is read in packs is a multiple of 8 numbers wide.
struct __align__(16) Pack {
    Real v[PACK];
};

// ---- reductions ----------------------------------------------------------------------------------------------------

INLINE float warp_sum(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) value += __shfl_xor_sync(FULL, value, offset);
    return value;
}

INLINE float warp_max(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) value = fmaxf(value, __shfl_xor_sync(FULL, value, offset));
    return value;
}

// The sum over all threads of the block, in every thread. `scratch` is shared and holds a number a warp; it may be used
// again at once. The order of the additions depends on the number of threads only.
INLINE float block_sum(float value, float* scratch) {
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = value;
    __syncthreads();
    float total = 0.0f;
    for (u32 warp = 0; warp < blockDim.x / WARP; ++warp) total += scratch[warp];
    return total;
}

INLINE float block_max(float value, float* scratch) {
    value = warp_max(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = value;
    __syncthreads();
    float most = scratch[0];
    for (u32 warp = 1; warp < blockDim.x / WARP; ++warp) most = fmaxf(most, scratch[warp]);
    return most;
}

// ---- random numbers ------------------------------------------------------------------------------------------------

// 64 random bits from a counter: splitmix64's finaliser of the seed and the place.
INLINE u64 scramble(u64 seed, u64 place) {
    u64 z = seed + (place + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// ---- the product of a 16 × 16 and a 16 × 8 matrix by one warp --------------------------------------------------------
//
// The places of mma.sync.m16n8k16 (PTX ISA, "Matrix fragments for mma.m16n8k16"): with group = lane / 4 and
// two = 2 · (lane % 4),
//   A (16 rows × 16): [0,1] row group, columns two, two + 1; [2,3] row group + 8; [4,5] row group, columns + 8; [6,7] both
//   B (16 × 8 columns): [0,1] rows two, two + 1 of column group; [2,3] rows + 8
//   C (16 × 8): [0,1] row group, columns two, two + 1; [2,3] row group + 8
// In float the same places are used and the product goes through shuffles: slow, exact, for comparisons.

#ifdef BF16
struct FragmentA {
    u32 r[4];
};
struct FragmentB {
    u32 r[2];
};
INLINE u32 pair(Real low, Real high) { return (u32)low.bits | ((u32)high.bits << 16); }
#else
struct FragmentA {
    float v[8];
};
struct FragmentB {
    float v[4];
};
#endif

#ifdef BF16
// Four 8 × 8 matrices of shared memory (ldmatrix, PTX ISA "Warp-level matrix load"): lane l names where row l % 8 of matrix l / 8
// begins, at a multiple of 16 bytes, and gets of each matrix m in r[m] the numbers two, two + 1 of row group. Turned, it gets those
// of column group instead.
INLINE void load_matrices(u32 r[4], const Real* row, bool turned) {
#ifdef EMULATED
    emulated_ldmatrix(r, row, turned);
#else
    u32 at;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(at) : "l"(row));
    if (turned)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
#endif
}
#endif

// A[row][k] = tile[row0 + row][k0 + k]
INLINE void load_a(FragmentA& a, const Real* tile, u32 stride, u32 row0, u32 k0) {
    u32 lane = threadIdx.x % WARP;
#ifdef BF16
    load_matrices(a.r, tile + (row0 + lane % 16) * stride + k0 + lane / 16 * 8, false);
#else
    const Real* at = tile + (row0 + lane / 4) * stride + k0 + 2 * (lane % 4);
    a.v[0] = at[0], a.v[1] = at[1];
    a.v[2] = at[8 * stride], a.v[3] = at[8 * stride + 1];
    a.v[4] = at[8], a.v[5] = at[9];
    a.v[6] = at[8 * stride + 8], a.v[7] = at[8 * stride + 9];
#endif
}

// Two neighbours: b[i][k][n] = tile[n0 + 8 · i + n][k0 + k]
INLINE void load_b(FragmentB b[2], const Real* tile, u32 stride, u32 n0, u32 k0) {
    u32 lane = threadIdx.x % WARP;
#ifdef BF16
    u32 r[4];
    load_matrices(r, tile + (n0 + lane % 8 + lane / 16 * 8) * stride + k0 + lane / 8 % 2 * 8, false);
    b[0].r[0] = r[0], b[0].r[1] = r[1], b[1].r[0] = r[2], b[1].r[1] = r[3];
#else
#pragma unroll
    for (u32 i = 0; i < 2; ++i) {
        const Real* at = tile + (n0 + 8 * i + lane / 4) * stride + k0 + 2 * (lane % 4);
        b[i].v[0] = at[0], b[i].v[1] = at[1], b[i].v[2] = at[8], b[i].v[3] = at[9];
    }
#endif
}

// Two neighbours: b[i][k][n] = tile[k0 + k][n0 + 8 · i + n]
INLINE void load_b_down(FragmentB b[2], const Real* tile, u32 stride, u32 k0, u32 n0) {
    u32 lane = threadIdx.x % WARP;
#ifdef BF16
    u32 r[4];
    load_matrices(r, tile + (k0 + lane % 16) * stride + n0 + lane / 16 * 8, true);
    b[0].r[0] = r[0], b[0].r[1] = r[1], b[1].r[0] = r[2], b[1].r[1] = r[3];
#else
#pragma unroll
    for (u32 i = 0; i < 2; ++i) {
        const Real* at = tile + (k0 + 2 * (lane % 4)) * stride + n0 + 8 * i + lane / 4;
        b[i].v[0] = at[0], b[i].v[1] = at[stride], b[i].v[2] = at[8 * stride], b[i].v[3] = at[9 * stride];
    }
#endif
}

// A from the results of two products whose columns are neighbours: a C holds the same places as half an A.
INLINE void pack_a(FragmentA& a, const float left[4], const float right[4]) {
#ifdef BF16
    a.r[0] = pair(narrow(left[0]), narrow(left[1]));
    a.r[1] = pair(narrow(left[2]), narrow(left[3]));
    a.r[2] = pair(narrow(right[0]), narrow(right[1]));
    a.r[3] = pair(narrow(right[2]), narrow(right[3]));
#else
#pragma unroll
    for (int i = 0; i < 4; ++i) a.v[i] = left[i], a.v[4 + i] = right[i];
#endif
}

// C += A · B, by all lanes of the warp together.
INLINE void mma(float c[4], const FragmentA& a, const FragmentB& b) {
#if defined(BF16) && defined(EMULATED)
    float wide_a[8], wide_b[4];
    for (int i = 0; i < 8; ++i) wide_a[i] = __uint_as_float((a.r[i / 2] >> (16 * (i % 2))) << 16);
    for (int i = 0; i < 4; ++i) wide_b[i] = __uint_as_float((b.r[i / 2] >> (16 * (i % 2))) << 16);
    emulated_mma(c, wide_a, wide_b);
#elif defined(BF16)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#elif defined(EMULATED) && !defined(SHUFFLED_MMA)
    emulated_mma(c, a.v, b.v);
#else
    u32 lane = threadIdx.x % WARP;
    // Unrolled only as far as registers must be named: all of it would take ptxas minutes.
#pragma unroll 1
    for (u32 holder = 0; holder < 4; ++holder) {
#pragma unroll
        for (u32 part = 0; part < 4; ++part) {
            u32 half = part / 2, odd = part % 2;
            float upper = __shfl_sync(FULL, a.v[4 * half + odd], lane / 4 * 4 + holder);
            float lower = __shfl_sync(FULL, a.v[4 * half + 2 + odd], lane / 4 * 4 + holder);
            float left = __shfl_sync(FULL, b.v[2 * half + odd], 8 * (lane % 4) + holder);
            float right = __shfl_sync(FULL, b.v[2 * half + odd], 8 * (lane % 4) + 4 + holder);
            c[0] += upper * left, c[1] += upper * right, c[2] += lower * left, c[3] += lower * right;
        }
    }
#endif
}
