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
