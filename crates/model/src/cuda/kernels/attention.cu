// Causal grouped-query attention within packed sequences, in blocks that never leave shared memory (FlashAttention-2).
//
// qkv [tokens, (heads + 2 · key_heads) · HEAD]: query heads, key heads, value heads of each token. A tile is up to ROWS tokens
// of one sequence; tiles [n, 3] give the sequence's first token, its length, and the tile's first place in it. A block has 4
// warps of 16 rows each. The backward pass recomputes the probabilities from the saved log-sum-exp (base 2, scaled), once for
// the queries and once for the keys, so that no sum depends on the order of blocks.

#define ROWS 64u
#ifdef BF16
#define COLUMNS 64u
#else
#define COLUMNS 32u
#endif
#define PADDED ((HEAD + 15u) / 16u * 16u)
// Sixteen bytes of padding keep the rows aligned and spread them over the banks.
#define STRIDE (PADDED + PACK)
#define STEPS (PADDED / 16u)
#define WIDE (HEAD / 8u)

// `rows` rows of HEAD numbers, `stride` apart, into a tile of `capacity` rows; all else of the tile becomes zero.
INLINE void load_tile(Real* tile, const Real* source, u64 stride, u32 rows, u32 capacity) {
    const u32 packs = PADDED / PACK;
    for (u32 at = threadIdx.x; at < capacity * packs; at += blockDim.x) {
        u32 row = at / packs, column = at % packs * PACK;
        Pack pack;
        if (row < rows && column < HEAD) {
            pack = *(const Pack*)(source + row * stride + column);
        } else {
#pragma unroll
            for (int i = 0; i < PACK; ++i) pack.v[i] = narrow(0.0f);
        }
        *(Pack*)(tile + row * STRIDE + column) = pack;
    }
}

// sums += A · tile[k0 …], over all columns of the tile. The padding makes the number of its blocks even.
INLINE void add_product(float (&sums)[WIDE][4], const FragmentA& a, const Real* tile, u32 k0) {
#pragma unroll
    for (u32 n = 0; n < WIDE; n += 2) {
        FragmentB b[2];
        load_b_down(b, tile, STRIDE, k0, n * 8);
        mma(sums[n], a, b[0]);
        if (n + 1 < WIDE) mma(sums[n + 1], a, b[1]);
    }
}

INLINE void clear(float (&sums)[WIDE][4]) {
#pragma unroll
    for (u32 n = 0; n < WIDE; ++n) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0.0f;
}

// Writes the two rows of a thread, each times its factor; rows beyond `rows` are left out.
INLINE void store(Real* target, u64 stride, u32 row, u32 rows, const float (&sums)[WIDE][4], float upper, float lower) {
    u32 lane = threadIdx.x % WARP;
#pragma unroll
    for (u32 n = 0; n < WIDE; ++n) {
        u32 column = n * 8 + 2 * (lane % 4);
        if (row < rows) {
            target[row * stride + column] = narrow(sums[n][0] * upper);
            target[row * stride + column + 1] = narrow(sums[n][1] * upper);
        }
        if (row + 8 < rows) {
            target[(row + 8) * stride + column] = narrow(sums[n][2] * lower);
            target[(row + 8) * stride + column + 1] = narrow(sums[n][3] * lower);
        }
    }
}

// out [tokens, heads · HEAD], log_sum [heads, tokens]. scale = log2(e) / √HEAD. Grid: (tiles, heads).
// Shared: (ROWS + 2 · COLUMNS) · STRIDE numbers.
KERNEL __launch_bounds__(128) attention(Real* out, float* log_sum, const Real* qkv, const u32* tiles, u32 tokens,
                                        u32 heads, u32 key_heads, float scale) {
    DYNAMIC_SHARED(Real, queries);
    Real *keys = queries + ROWS * STRIDE, *values = keys + COLUMNS * STRIDE;
    u32 start = tiles[3 * blockIdx.x], length = tiles[3 * blockIdx.x + 1], first = tiles[3 * blockIdx.x + 2];
    u32 head = blockIdx.y, key_head = head / (heads / key_heads);
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u64 stride = (u64)(heads + 2 * key_heads) * HEAD;
    const Real* rows = qkv + start * stride;
    u32 count = min(ROWS, length - first), end = first + count;
    load_tile(queries, rows + first * stride + head * HEAD, stride, count, ROWS);

    u32 row = warp * 16 + lane / 4;
    float sums[WIDE][4], most[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {0.0f, 0.0f};
    clear(sums);
    for (u32 key = 0; key < end; key += COLUMNS) {
        u32 available = min(COLUMNS, length - key);
        __syncthreads();
        load_tile(keys, rows + key * stride + (heads + key_head) * HEAD, stride, available, COLUMNS);
        load_tile(values, rows + key * stride + (heads + key_heads + key_head) * HEAD, stride, available, COLUMNS);
        __syncthreads();
        float scores[COLUMNS / 8][4];
#pragma unroll
        for (u32 n = 0; n < COLUMNS / 8; ++n) scores[n][0] = scores[n][1] = scores[n][2] = scores[n][3] = 0.0f;
#pragma unroll
        for (u32 step = 0; step < STEPS; ++step) {
            FragmentA a;
            load_a(a, queries, STRIDE, warp * 16, step * 16);
#pragma unroll
            for (u32 n = 0; n < COLUMNS / 8; n += 2) {
                FragmentB b[2];
                load_b(b, keys, STRIDE, n * 8, step * 16);
                mma(scores[n], a, b[0]);
                mma(scores[n + 1], a, b[1]);
            }
        }
        // Column 0 is open to every row, so that the first tile makes every maximum finite.
        float now[2] = {most[0], most[1]};
#pragma unroll
        for (u32 n = 0; n < COLUMNS / 8; ++n) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                u32 column = key + n * 8 + 2 * (lane % 4) + i % 2, query = first + row + i / 2 * 8;
                scores[n][i] = column <= query && column < length ? scores[n][i] * scale : -INFINITY_F;
                now[i / 2] = fmaxf(now[i / 2], scores[n][i]);
            }
        }
#pragma unroll
        for (u32 i = 0; i < 2; ++i) {
            now[i] = fmaxf(now[i], __shfl_xor_sync(FULL, now[i], 1));
            now[i] = fmaxf(now[i], __shfl_xor_sync(FULL, now[i], 2));
        }
        float factor[2] = {exp2f(most[0] - now[0]), exp2f(most[1] - now[1])};
        most[0] = now[0], most[1] = now[1], total[0] *= factor[0], total[1] *= factor[1];
#pragma unroll
        for (u32 n = 0; n < COLUMNS / 8; ++n) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                scores[n][i] = exp2f(scores[n][i] - now[i / 2]);
                total[i / 2] += scores[n][i];
            }
        }
#pragma unroll
        for (u32 n = 0; n < WIDE; ++n) {
            sums[n][0] *= factor[0], sums[n][1] *= factor[0], sums[n][2] *= factor[1], sums[n][3] *= factor[1];
        }
#pragma unroll
        for (u32 step = 0; step < COLUMNS / 16; ++step) {
            FragmentA a;
            pack_a(a, scores[2 * step], scores[2 * step + 1]);
            add_product(sums, a, values, step * 16);
        }
    }
#pragma unroll
    for (u32 i = 0; i < 2; ++i) {
        total[i] += __shfl_xor_sync(FULL, total[i], 1);
        total[i] += __shfl_xor_sync(FULL, total[i], 2);
        if (lane % 4 == 0 && row + i * 8 < count)
            log_sum[(u64)head * tokens + start + first + row + i * 8] = most[i] + log2f(total[i]);
    }
    store(out + ((u64)(start + first) * heads + head) * HEAD, (u64)heads * HEAD, row, count, sums, 1.0f / total[0],
          1.0f / total[1]);
}

// product [heads, tokens] = Σ out · dout of each head. Grid: tokens; a warp takes a head at a time.
KERNEL attention_product(float* product, const Real* out, const Real* dout, u32 tokens, u32 heads) {
    u32 lane = threadIdx.x % WARP;
    for (u32 head = threadIdx.x / WARP; head < heads; head += blockDim.x / WARP) {
        u64 offset = ((u64)blockIdx.x * heads + head) * HEAD;
        float sum = 0.0f;
        for (u32 i = lane; i < HEAD; i += WARP) sum += widen(out[offset + i]) * widen(dout[offset + i]);
        sum = warp_sum(sum);
        if (lane == 0) product[(u64)head * tokens + blockIdx.x] = sum;
    }
}

// The query part of dqkv. Grid: (tiles, heads). Shared: (2 · ROWS + 2 · COLUMNS) · STRIDE numbers.
KERNEL __launch_bounds__(128) attention_queries(Real* dqkv, const Real* qkv, const Real* dout, const float* log_sum,
                                                const float* product, const u32* tiles, u32 tokens, u32 heads,
                                                u32 key_heads, float scale, float linear_scale) {
    DYNAMIC_SHARED(Real, queries);
    Real *gradients = queries + ROWS * STRIDE, *keys = gradients + ROWS * STRIDE, *values = keys + COLUMNS * STRIDE;
    u32 start = tiles[3 * blockIdx.x], length = tiles[3 * blockIdx.x + 1], first = tiles[3 * blockIdx.x + 2];
    u32 head = blockIdx.y, key_head = head / (heads / key_heads);
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u64 stride = (u64)(heads + 2 * key_heads) * HEAD;
    const Real* rows = qkv + start * stride;
    u32 count = min(ROWS, length - first), end = first + count;
    load_tile(queries, rows + first * stride + head * HEAD, stride, count, ROWS);
    load_tile(gradients, dout + ((u64)(start + first) * heads + head) * HEAD, (u64)heads * HEAD, count, ROWS);

    u32 row = warp * 16 + lane / 4;
    float logs[2] = {0.0f, 0.0f}, products[2] = {0.0f, 0.0f};
#pragma unroll
    for (u32 i = 0; i < 2; ++i) {
        if (row + i * 8 < count) {
            u64 at = (u64)head * tokens + start + first + row + i * 8;
            logs[i] = log_sum[at], products[i] = product[at];
        }
    }
    float sums[WIDE][4];
    clear(sums);
    for (u32 key = 0; key < end; key += COLUMNS) {
        u32 available = min(COLUMNS, length - key);
        __syncthreads();
        load_tile(keys, rows + key * stride + (heads + key_head) * HEAD, stride, available, COLUMNS);
        load_tile(values, rows + key * stride + (heads + key_heads + key_head) * HEAD, stride, available, COLUMNS);
        __syncthreads();
        // Sixteen keys at a time, which is as deep as one product goes.
#pragma unroll
        for (u32 group = 0; group < COLUMNS / 16; ++group) {
            float scores[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
            float slopes[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
#pragma unroll
            for (u32 step = 0; step < STEPS; ++step) {
                FragmentA query, gradient;
                load_a(query, queries, STRIDE, warp * 16, step * 16);
                load_a(gradient, gradients, STRIDE, warp * 16, step * 16);
                FragmentB b[2];
                load_b(b, keys, STRIDE, group * 16, step * 16);
                mma(scores[0], query, b[0]);
                mma(scores[1], query, b[1]);
                load_b(b, values, STRIDE, group * 16, step * 16);
                mma(slopes[0], gradient, b[0]);
                mma(slopes[1], gradient, b[1]);
            }
#pragma unroll
            for (u32 n = 0; n < 2; ++n) {
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
                    u32 column = key + group * 16 + n * 8 + 2 * (lane % 4) + i % 2, query = first + row + i / 2 * 8;
                    bool open = column <= query && query < end;
                    float probability = open ? exp2f(scores[n][i] * scale - logs[i / 2]) : 0.0f;
                    slopes[n][i] = probability * (slopes[n][i] - products[i / 2]);
                }
            }
            FragmentA a;
            pack_a(a, slopes[0], slopes[1]);
            add_product(sums, a, keys, group * 16);
        }
    }
    store(dqkv + (start + first) * stride + head * HEAD, stride, row, count, sums, linear_scale, linear_scale);
}

// The key and value parts of dqkv, over all query heads that share them. Grid: (tiles, key_heads).
// Shared: (2 · ROWS + 2 · COLUMNS) · STRIDE numbers and 2 · COLUMNS floats.
KERNEL __launch_bounds__(128) attention_keys(Real* dqkv, const Real* qkv, const Real* dout, const float* log_sum,
                                             const float* product, const u32* tiles, u32 tokens, u32 heads,
                                             u32 key_heads, float scale, float linear_scale) {
    DYNAMIC_SHARED(Real, keys);
    Real *values = keys + ROWS * STRIDE, *queries = values + ROWS * STRIDE, *gradients = queries + COLUMNS * STRIDE;
    float *logs = (float*)(gradients + COLUMNS * STRIDE), *products = logs + COLUMNS;
    u32 start = tiles[3 * blockIdx.x], length = tiles[3 * blockIdx.x + 1], first = tiles[3 * blockIdx.x + 2];
    u32 key_head = blockIdx.y, share = heads / key_heads;
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u64 stride = (u64)(heads + 2 * key_heads) * HEAD;
    const Real* rows = qkv + start * stride;
    u32 count = min(ROWS, length - first);
    load_tile(keys, rows + first * stride + (heads + key_head) * HEAD, stride, count, ROWS);
    load_tile(values, rows + first * stride + (heads + key_heads + key_head) * HEAD, stride, count, ROWS);

    u32 row = warp * 16 + lane / 4;
    float dkeys[WIDE][4], dvalues[WIDE][4];
    clear(dkeys);
    clear(dvalues);
    for (u32 head = key_head * share; head < (key_head + 1) * share; ++head) {
        for (u32 query = first; query < length; query += COLUMNS) {
            u32 available = min(COLUMNS, length - query);
            u64 at = start + query;
            __syncthreads();
            load_tile(queries, rows + query * stride + head * HEAD, stride, available, COLUMNS);
            load_tile(gradients, dout + (at * heads + head) * HEAD, (u64)heads * HEAD, available, COLUMNS);
            for (u32 i = threadIdx.x; i < available; i += blockDim.x) {
                logs[i] = log_sum[(u64)head * tokens + at + i];
                products[i] = product[(u64)head * tokens + at + i];
            }
            __syncthreads();
            // Transposed: rows are keys, columns are queries. One group at a time: more would not fit the registers.
#pragma unroll 1
            for (u32 group = 0; group < COLUMNS / 16; ++group) {
                float scores[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
                float slopes[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
#pragma unroll
                for (u32 step = 0; step < STEPS; ++step) {
                    FragmentA key, value;
                    load_a(key, keys, STRIDE, warp * 16, step * 16);
                    load_a(value, values, STRIDE, warp * 16, step * 16);
                    FragmentB b[2];
                    load_b(b, queries, STRIDE, group * 16, step * 16);
                    mma(scores[0], key, b[0]);
                    mma(scores[1], key, b[1]);
                    load_b(b, gradients, STRIDE, group * 16, step * 16);
                    mma(slopes[0], value, b[0]);
                    mma(slopes[1], value, b[1]);
                }
#pragma unroll
                for (u32 n = 0; n < 2; ++n) {
#pragma unroll
                    for (u32 i = 0; i < 4; ++i) {
                        u32 place = group * 16 + n * 8 + 2 * (lane % 4) + i % 2, key = first + row + i / 2 * 8;
                        bool open = key <= query + place && place < available;
                        float probability = open ? exp2f(scores[n][i] * scale - logs[place]) : 0.0f;
                        scores[n][i] = probability;
                        slopes[n][i] = open ? probability * (slopes[n][i] - products[place]) : 0.0f;
                    }
                }
                FragmentA probabilities, a;
                pack_a(probabilities, scores[0], scores[1]);
                pack_a(a, slopes[0], slopes[1]);
                add_product(dvalues, probabilities, gradients, group * 16);
                add_product(dkeys, a, queries, group * 16);
            }
        }
    }
    Real* target = dqkv + (start + first) * stride + (heads + key_head) * HEAD;
    store(target, stride, row, count, dkeys, linear_scale, linear_scale);
    store(target + key_heads * HEAD, stride, row, count, dvalues, 1.0f, 1.0f);
}
