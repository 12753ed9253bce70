// One new token for each of many texts, against a cache of keys and values.
//
// Caches [slots, capacity, key_heads · HEAD], one of keys and one of values a layer.

// Stores the key and value parts of rows of qkv. Grid: rows.
KERNEL store_cache(Real* keys, Real* values, const Real* qkv, const u32* slots, const u32* positions, u32 capacity,
                   u32 heads, u32 key_heads) {
    u32 width = key_heads * HEAD;
    const Real* source = qkv + (u64)blockIdx.x * (heads + 2 * key_heads) * HEAD + (u64)heads * HEAD;
    u64 target = ((u64)slots[blockIdx.x] * capacity + positions[blockIdx.x]) * width;
    for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK) {
        *(Pack*)(keys + target + at) = *(const Pack*)(source + at);
        *(Pack*)(values + target + at) = *(const Pack*)(source + width + at);
    }
}

// A key is read by LANES neighbours, eight numbers each; a warp reads TOGETHER keys at a time.
#if HEAD <= 8
#define LANES 1u
#elif HEAD <= 16
#define LANES 2u
#elif HEAD <= 32
#define LANES 4u
#elif HEAD <= 64
#define LANES 8u
#elif HEAD <= 128
#define LANES 16u
#else
#define LANES 32u
#endif
#define TOGETHER (WARP / LANES)

struct __align__(16) Eight {
    Real v[8];
};

// The part of one query head's attention over the keys of one split: partial [rows, heads, splits, HEAD + 2] holds the weighted
// values, then the maximum and the sum of weights. Grid: (rows, heads, splits). Row r sees positions[r] + 1 keys.
// Shared: (block / LANES) · (HEAD + 2) floats.
KERNEL decode_attention(float* partial, const Real* qkv, const Real* keys, const Real* values, const u32* slots,
                        const u32* positions, u32 capacity, u32 heads, u32 key_heads, u32 per_split, float scale) {
    DYNAMIC_SHARED(float, parts);
    u32 head = blockIdx.y, key_head = head / (heads / key_heads), width = key_heads * HEAD;
    u32 lane = threadIdx.x % WARP, place = lane % LANES;
    bool active = place * 8 < HEAD;
    u32 first = blockIdx.z * per_split, last = min(positions[blockIdx.x] + 1, first + per_split);
    const Real* query = qkv + ((u64)blockIdx.x * (heads + 2 * key_heads) + head) * HEAD;
    u64 base = (u64)slots[blockIdx.x] * capacity * width + key_head * HEAD + place * 8;
    float q[8], sums[8], most = -INFINITY_F, total = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 8; ++i) q[i] = active ? widen(query[place * 8 + i]) * scale : 0.0f, sums[i] = 0.0f;
    // All lanes of a warp go round equally often, because they shuffle together.
    u32 per_round = blockDim.x / LANES;
    for (u32 round = first; round < last; round += per_round) {
        u32 key = round + threadIdx.x / LANES;
        bool open = key < last;
        float score = 0.0f;
        if (open && active) {
            Eight k = *(const Eight*)(keys + base + (u64)key * width);
#pragma unroll
            for (u32 i = 0; i < 8; ++i) score += q[i] * widen(k.v[i]);
        }
#pragma unroll
        for (u32 offset = LANES / 2; offset > 0; offset /= 2) score += __shfl_xor_sync(FULL, score, offset);
        if (open) {
            float now = fmaxf(most, score), factor = exp2f(most - now), weight = exp2f(score - now);
            most = now, total = total * factor + weight;
            if (active) {
                Eight v = *(const Eight*)(values + base + (u64)key * width);
#pragma unroll
                for (u32 i = 0; i < 8; ++i) sums[i] = sums[i] * factor + weight * widen(v.v[i]);
            }
        }
    }
    // The groups of lanes saw different keys: one thread a column adds them up, in order.
    u32 groups = blockDim.x / LANES;
    float* part = parts + threadIdx.x / LANES * (HEAD + 2);
    if (active)
        for (u32 i = 0; i < 8; ++i) part[place * 8 + i] = sums[i];
    if (place == 0) part[HEAD] = most, part[HEAD + 1] = total;
    __syncthreads();
    float highest = -INFINITY_F;
    for (u32 group = 0; group < groups; ++group) highest = fmaxf(highest, parts[group * (HEAD + 2) + HEAD]);
    float* out = partial + (((u64)blockIdx.x * heads + head) * gridDim.z + blockIdx.z) * (HEAD + 2);
    for (u32 column = threadIdx.x; column < HEAD + 2; column += blockDim.x) {
        float sum = 0.0f;
        for (u32 group = 0; group < groups; ++group) {
            float maximum = parts[group * (HEAD + 2) + HEAD];
            // A group without a key has no weight; a NaN is passed on, not left out.
            if (column != HEAD && parts[group * (HEAD + 2) + HEAD + 1] != 0.0f)
                sum += parts[group * (HEAD + 2) + column] * exp2f(maximum - highest);
        }
        out[column] = column == HEAD ? highest : sum;
    }
}

// out [rows, heads · HEAD] from the splits. Grid: (rows, heads).
KERNEL combine_splits(Real* out, const float* partial, u32 heads, u32 splits) {
    u64 row = (u64)blockIdx.x * heads + blockIdx.y;
    const float* parts = partial + row * splits * (HEAD + 2);
    float highest = -INFINITY_F, total = 0.0f;
    for (u32 split = 0; split < splits; ++split) highest = fmaxf(highest, parts[split * (HEAD + 2) + HEAD]);
    for (u32 split = 0; split < splits; ++split) {
        const float* part = parts + split * (HEAD + 2);
        if (part[HEAD + 1] != 0.0f) total += part[HEAD + 1] * exp2f(part[HEAD] - highest);
    }
    for (u32 column = threadIdx.x; column < HEAD; column += blockDim.x) {
        float sum = 0.0f;
        for (u32 split = 0; split < splits; ++split) {
            const float* part = parts + split * (HEAD + 2);
            if (part[HEAD + 1] != 0.0f) sum += part[column] * exp2f(part[HEAD] - highest);
        }
        out[row * HEAD + column] = narrow(sum / total);
    }
}
