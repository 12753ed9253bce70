// The gradient's norm and AdamW over all parameters, which lie one after the other.

// partial [blocks] = each block's share of Σ x². Grid: any number of blocks.
KERNEL sum_squares(float* partial, const float* x, u64 length) {
    __shared__ float scratch[WARP];
    u64 step = (u64)gridDim.x * blockDim.x;
    float sum = 0.0f;
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < length; at += step) sum += x[at] * x[at];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// torch.optim.AdamW on the numbers [first, first + length): decay, moments, bias correction, update; `working` gets the rounded
// copy (null where the master is the working copy). clip multiplies the gradient; keep = 1 − rate · decay; step_size = rate /
// (1 − β₁ᵗ); root2 = √(1 − β₂ᵗ).
KERNEL adamw(float* master, Real* working, const float* gradient, float* mean, float* square, u64 first, u64 length,
             float clip, float keep, float beta1, float beta2, float step_size, float root2, float epsilon) {
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < length; i += step) {
        u64 at = first + i;
        float g = gradient[at] * clip;
        float m = beta1 * mean[at] + (1.0f - beta1) * g;
        float v = beta2 * square[at] + (1.0f - beta2) * g * g;
        float value = master[at] * keep - step_size * m / (sqrtf(v) / root2 + epsilon);
        mean[at] = m, square[at] = v, master[at] = value;
        if (working) working[at] = narrow(value);
    }
}
