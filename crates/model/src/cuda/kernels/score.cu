// The head's rows of logits: log-probability, entropy and their gradient. One block a row.

// From z = logits · 1/temperature: scores [rows, 3] = ln p(target), log-sum-exp, entropy (nats). Grid: rows.
KERNEL score(float* scores, const float* logits, const u32* targets, u32 vocabulary) {
    __shared__ float scratch[WARP];
    const float* row = logits + (u64)blockIdx.x * vocabulary;
    float most = -INFINITY_F;
    for (u32 at = threadIdx.x; at < vocabulary; at += blockDim.x) most = fmaxf(most, row[at]);
    most = block_max(most, scratch);
    float total = 0.0f, weighted = 0.0f;
    for (u32 at = threadIdx.x; at < vocabulary; at += blockDim.x) {
        float shifted = row[at] - most, weight = expf(shifted);
        total += weight, weighted += weight * shifted;
    }
    total = block_sum(total, scratch);
    weighted = block_sum(weighted, scratch);
    if (threadIdx.x == 0) {
        float* out = scores + 3 * (u64)blockIdx.x;
        out[0] = row[targets[blockIdx.x]] - most - logf(total);
        out[1] = most + logf(total);
        out[2] = logf(total) - weighted / total;
    }
}

// out = the gradient of the logits before the temperature, from that of log-probability and entropy (slopes [rows, 2]).
// Grid: (rows, columns / block).
KERNEL score_backward(Real* out, const float* logits, const float* scores, const float* slopes, const u32* targets,
                      u32 vocabulary, float inverse_temperature) {
    u32 at = blockIdx.y * blockDim.x + threadIdx.x;
    if (at >= vocabulary) return;
    u64 place = (u64)blockIdx.x * vocabulary + at;
    float log_sum = scores[3 * (u64)blockIdx.x + 1], entropy = scores[3 * (u64)blockIdx.x + 2];
    float dlog = slopes[2 * (u64)blockIdx.x], dentropy = slopes[2 * (u64)blockIdx.x + 1];
    float log_probability = logits[place] - log_sum, probability = expf(log_probability);
    // 0 · ln 0 is 0: where p underflows, so does its part in the entropy.
    float spread = probability > 0.0f ? probability * (log_probability + entropy) : 0.0f;
    float gradient = dlog * ((at == targets[blockIdx.x] ? 1.0f : 0.0f) - probability) - dentropy * spread;
    out[place] = narrow(gradient * inverse_temperature);
}

// Draws an id from each row of logits: the largest of logit / temperature + Gumbel noise, which is a draw from their softmax;
// with an inverse temperature of 0 the largest logit. settings [rows, 3]: inverse temperature (as bits), seed (low, high).
// log_prob [rows]: ln p of what was drawn under the softmax of the logits themselves. Grid: rows.
KERNEL sample(u32* drawn, float* log_prob, const float* logits, const u32* settings, u32 vocabulary) {
    __shared__ float scratch[WARP];
    __shared__ u32 places[WARP];
    const float* row = logits + (u64)blockIdx.x * vocabulary;
    settings += 3 * (u64)blockIdx.x;
    float inverse = __uint_as_float(settings[0]);
    u64 seed = (u64)settings[1] | ((u64)settings[2] << 32);
    float most = -INFINITY_F, best = -INFINITY_F;
    u32 place = 0;
    for (u32 at = threadIdx.x; at < vocabulary; at += blockDim.x) {
        most = fmaxf(most, row[at]);
        float value = row[at];
        if (inverse > 0.0f) {
            // 1 − u in (0, 1), fine near 0, where the noise is largest and the float can tell small numbers apart.
            float rest = ((float)(u32)(scramble(seed, at) >> 32) + 0.5f) * (1.0f / 4294967296.0f);
            value = value * inverse - logf(-log1pf(-fminf(rest, 0.99999994f)));
        }
        // Ascending places within a thread: the first of equals stays.
        if (value > best) best = value, place = at;
    }
    most = block_max(most, scratch);
    float total = 0.0f;
    for (u32 at = threadIdx.x; at < vocabulary; at += blockDim.x) total += expf(row[at] - most);
    total = block_sum(total, scratch);
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
        float other = __shfl_xor_sync(FULL, best, offset);
        u32 there = __shfl_xor_sync(FULL, place, offset);
        if (other > best || (other == best && there < place)) best = other, place = there;
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = best, places[threadIdx.x / WARP] = place;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (u32 warp = 1; warp < blockDim.x / WARP; ++warp)
            if (scratch[warp] > best || (scratch[warp] == best && places[warp] < place))
                best = scratch[warp], place = places[warp];
        drawn[blockIdx.x] = place;
        log_prob[blockIdx.x] = row[place] - most - logf(total);
    }
}
