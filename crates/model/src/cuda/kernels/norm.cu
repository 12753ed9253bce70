// RMSNorm: out = x · rstd · weight, rstd = 1/√(mean(x²) + ε), one block a row.

INLINE float reciprocal_root(float squares, u32 width, float epsilon) {
    return 1.0f / sqrtf(squares / (float)width + epsilon);
}

// out [rows, width] of x [rows, width]; grid: rows.
KERNEL rms_norm(Real* out, const Real* x, const Real* weight, u32 width, float epsilon) {
    __shared__ float scratch[WARP];
    x += (u64)blockIdx.x * width, out += (u64)blockIdx.x * width;
    float squares = 0.0f;
    for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK) {
        Pack pack = *(const Pack*)(x + at);
        for (int i = 0; i < PACK; ++i) squares += widen(pack.v[i]) * widen(pack.v[i]);
    }
    float rstd = reciprocal_root(block_sum(squares, scratch), width, epsilon);
    for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK) {
        Pack pack = *(const Pack*)(x + at), scale = *(const Pack*)(weight + at);
        for (int i = 0; i < PACK; ++i) pack.v[i] = narrow(widen(pack.v[i]) * rstd * widen(scale.v[i]));
        *(Pack*)(out + at) = pack;
    }
}

// sum = x + delta, out = norm of sum; sum may be x. Grid: rows.
KERNEL add_rms_norm(Real* sum, Real* out, const Real* x, const Real* delta, const Real* weight, u32 width, float epsilon) {
    __shared__ float scratch[WARP];
    u64 row = (u64)blockIdx.x * width;
    sum += row, out += row, x += row, delta += row;
    float squares = 0.0f;
    for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK) {
        Pack pack = *(const Pack*)(x + at), more = *(const Pack*)(delta + at);
        for (int i = 0; i < PACK; ++i) {
            pack.v[i] = narrow(widen(pack.v[i]) + widen(more.v[i]));
            squares += widen(pack.v[i]) * widen(pack.v[i]);
        }
        *(Pack*)(sum + at) = pack;
    }
    float rstd = reciprocal_root(block_sum(squares, scratch), width, epsilon);
    // Each thread reads again what it wrote itself.
    for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK) {
        Pack pack = *(const Pack*)(sum + at), scale = *(const Pack*)(weight + at);
        for (int i = 0; i < PACK; ++i) pack.v[i] = narrow(widen(pack.v[i]) * rstd * widen(scale.v[i]));
        *(Pack*)(out + at) = pack;
    }
}

// dx = base + rstd · (g − n · mean(g · n)) with n = x · rstd and g = dy · weight; base may be dx, or null for zero.
// partial [blocks, width]: this block's rows' sum of dy · n, or null. Shared: width floats. Grid: any number of blocks.
KERNEL rms_norm_backward(Real* dx, const Real* base, float* partial, const Real* x, const Real* weight, const Real* dy,
                         u32 rows, u32 width, float epsilon) {
    __shared__ float scratch[WARP];
    DYNAMIC_SHARED(float, dweight);
    // A thread owns the same columns of every row, so that the sums need no barrier.
    for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK)
        for (int i = 0; i < PACK; ++i) dweight[at + i] = 0.0f;
    for (u32 row = blockIdx.x; row < rows; row += gridDim.x) {
        u64 offset = (u64)row * width;
        float squares = 0.0f, product = 0.0f;
        for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK) {
            Pack a = *(const Pack*)(x + offset + at), d = *(const Pack*)(dy + offset + at);
            Pack scale = *(const Pack*)(weight + at);
            for (int i = 0; i < PACK; ++i) {
                float value = widen(a.v[i]);
                squares += value * value, product += widen(d.v[i]) * widen(scale.v[i]) * value;
            }
        }
        float rstd = reciprocal_root(block_sum(squares, scratch), width, epsilon);
        float mean = block_sum(product, scratch) * rstd / (float)width;
        for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK) {
            Pack a = *(const Pack*)(x + offset + at), d = *(const Pack*)(dy + offset + at);
            Pack scale = *(const Pack*)(weight + at), out;
            if (base) out = *(const Pack*)(base + offset + at);
            for (int i = 0; i < PACK; ++i) {
                float n = widen(a.v[i]) * rstd, gradient = widen(d.v[i]);
                float value = rstd * (gradient * widen(scale.v[i]) - n * mean);
                out.v[i] = narrow(base ? widen(out.v[i]) + value : value);
                dweight[at + i] += gradient * n;
            }
            *(Pack*)(dx + offset + at) = out;
        }
    }
    if (partial)
        for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK)
            for (int i = 0; i < PACK; ++i) partial[(u64)blockIdx.x * width + at + i] = dweight[at + i];
}
