// Bias, RMSNorm of each query and key head, and the rotary embedding, of rows that hold query heads, key heads, value heads.
//
// A warp takes a head at a time; a lane takes the pairs (i, i + HEAD / 2) with i = lane, lane + 32, …
// table [positions, HEAD]: the cosines of a position, then its sines.

#define HALF (HEAD / 2u)
#define PAIRS ((HALF + WARP - 1) / WARP)

// out and x: [tokens, (heads + 2 · key_heads) · HEAD], out may be x. bias [row], query_norm and key_norm [HEAD] may be null.
// Grid: tokens.
KERNEL rope(Real* out, const Real* x, const Real* bias, const Real* query_norm, const Real* key_norm, const float* table,
            const u32* positions, u32 heads, u32 key_heads, float epsilon) {
    u32 lane = threadIdx.x % WARP, all = heads + 2 * key_heads;
    const float* angles = table + (u64)positions[blockIdx.x] * HEAD;
    for (u32 head = threadIdx.x / WARP; head < all; head += blockDim.x / WARP) {
        u64 offset = ((u64)blockIdx.x * all + head) * HEAD;
        const Real* shift = bias ? bias + head * HEAD : 0;
        const Real* weight = head < heads ? query_norm : key_norm;
        bool turned = head < heads + key_heads;
        float low[PAIRS], high[PAIRS], squares = 0.0f;
#pragma unroll
        for (u32 p = 0; p < PAIRS; ++p) {
            u32 i = p * WARP + lane;
            low[p] = high[p] = 0.0f;
            if (i < HALF) {
                low[p] = widen(x[offset + i]) + (shift ? widen(shift[i]) : 0.0f);
                high[p] = widen(x[offset + i + HALF]) + (shift ? widen(shift[i + HALF]) : 0.0f);
            }
            squares += low[p] * low[p] + high[p] * high[p];
        }
        if (weight && turned) {
            float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)HEAD + epsilon);
#pragma unroll
            for (u32 p = 0; p < PAIRS; ++p) {
                u32 i = p * WARP + lane;
                if (i < HALF) low[p] *= rstd * widen(weight[i]), high[p] *= rstd * widen(weight[i + HALF]);
            }
        }
#pragma unroll
        for (u32 p = 0; p < PAIRS; ++p) {
            u32 i = p * WARP + lane;
            if (i < HALF) {
                float cosine = turned ? angles[i] : 1.0f, sine = turned ? angles[i + HALF] : 0.0f;
                out[offset + i] = narrow(low[p] * cosine - high[p] * sine);
                out[offset + i + HALF] = narrow(high[p] * cosine + low[p] * sine);
            }
        }
    }
}

// The gradient dx of what `rope` read, in place of the gradient of what it wrote. x is what `rope` read, and is looked at only
// where there are norms. partial [blocks, 2 · HEAD]: sums for query_norm and key_norm, or null. Grid: any number of blocks.
// Shared: (block / 32) · 2 · HEAD floats.
KERNEL rope_backward(Real* dx, float* partial, const Real* x, const Real* query_norm, const Real* key_norm,
                     const float* table, const u32* positions, u32 tokens, u32 heads, u32 key_heads, float epsilon) {
    DYNAMIC_SHARED(float, sums);
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    u32 all = heads + 2 * key_heads;
    if (partial) {
        for (u32 at = threadIdx.x; at < warps * 2 * HEAD; at += blockDim.x) sums[at] = 0.0f;
        __syncthreads();
    }
    for (u32 token = blockIdx.x; token < tokens; token += gridDim.x) {
        const float* angles = table + (u64)positions[token] * HEAD;
        for (u32 head = warp; head < heads + key_heads; head += warps) {
            u64 offset = ((u64)token * all + head) * HEAD;
            const Real* weight = head < heads ? query_norm : key_norm;
            float low[PAIRS], high[PAIRS];
#pragma unroll
            for (u32 p = 0; p < PAIRS; ++p) {
                u32 i = p * WARP + lane;
                low[p] = high[p] = 0.0f;
                if (i < HALF) {
                    float a = widen(dx[offset + i]), b = widen(dx[offset + i + HALF]);
                    low[p] = a * angles[i] + b * angles[i + HALF];
                    high[p] = b * angles[i] - a * angles[i + HALF];
                }
            }
            if (weight) {
                float squares = 0.0f, product = 0.0f;
#pragma unroll
                for (u32 p = 0; p < PAIRS; ++p) {
                    u32 i = p * WARP + lane;
                    if (i < HALF) {
                        float a = widen(x[offset + i]), b = widen(x[offset + i + HALF]);
                        squares += a * a + b * b;
                        product += low[p] * widen(weight[i]) * a + high[p] * widen(weight[i + HALF]) * b;
                    }
                }
                float rstd = 1.0f / sqrtf(warp_sum(squares) / (float)HEAD + epsilon);
                float mean = warp_sum(product) * rstd / (float)HEAD;
                float* sum = sums + (warp * 2 + (head < heads ? 0 : 1)) * HEAD;
#pragma unroll
                for (u32 p = 0; p < PAIRS; ++p) {
                    u32 i = p * WARP + lane;
                    if (i < HALF) {
                        float a = widen(x[offset + i]) * rstd, b = widen(x[offset + i + HALF]) * rstd;
                        if (partial) sum[i] += low[p] * a, sum[i + HALF] += high[p] * b;
                        low[p] = rstd * (low[p] * widen(weight[i]) - a * mean);
                        high[p] = rstd * (high[p] * widen(weight[i + HALF]) - b * mean);
                    }
                }
            }
#pragma unroll
            for (u32 p = 0; p < PAIRS; ++p) {
                u32 i = p * WARP + lane;
                if (i < HALF) dx[offset + i] = narrow(low[p]), dx[offset + i + HALF] = narrow(high[p]);
            }
        }
    }
    if (partial) {
        __syncthreads();
        for (u32 at = threadIdx.x; at < 2 * HEAD; at += blockDim.x) {
            float sum = 0.0f;
            for (u32 other = 0; other < warps; ++other) sum += sums[other * 2 * HEAD + at];
            partial[(u64)blockIdx.x * 2 * HEAD + at] = sum;
        }
    }
}
