// Rows and single numbers: gather, scatter, sums of columns, the activation, dropout, changes of type.

// out [tokens, width] = table[ids]; grid: tokens.
KERNEL gather(Real* out, const Real* table, const u32* ids, u32 width) {
    const Real* source = table + (u64)ids[blockIdx.x] * width;
    Real* target = out + (u64)blockIdx.x * width;
    for (u32 at = threadIdx.x * PACK; at < width; at += blockDim.x * PACK)
        *(Pack*)(target + at) = *(const Pack*)(source + at);
}

// Stage 1 of a scatter that adds: piece p sums the rows order[pieces[p]] … order[pieces[p + 1] − 1] of `rows` in that order.
// Grid: (pieces, columns / block).
KERNEL sum_pieces(float* partial, const Real* rows, const u32* order, const u32* pieces, u32 width) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.0f;
    for (u32 at = pieces[blockIdx.x]; at < pieces[blockIdx.x + 1]; ++at)
        sum += widen(rows[(u64)order[at] * width + column]);
    partial[(u64)blockIdx.x * width + column] = sum;
}

// The same of float rows.
KERNEL sum_pieces_float(float* partial, const float* rows, const u32* order, const u32* pieces, u32 width) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.0f;
    for (u32 at = pieces[blockIdx.x]; at < pieces[blockIdx.x + 1]; ++at)
        sum += rows[(u64)order[at] * width + column];
    partial[(u64)blockIdx.x * width + column] = sum;
}

// Stage 2: target[ids[s]] += the pieces segments[s] … segments[s + 1] − 1, in that order. Grid: (segments, columns / block).
// No two segments have the same id, so that nothing depends on the order of the blocks.
KERNEL add_segments(float* target, const float* partial, const u32* ids, const u32* segments, u32 width) {
    u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.0f;
    for (u32 piece = segments[blockIdx.x]; piece < segments[blockIdx.x + 1]; ++piece)
        sum += partial[(u64)piece * width + column];
    target[(u64)ids[blockIdx.x] * width + column] += sum;
}

// partial[chunk] = the sum of rows chunk · per_chunk …; x's rows begin `stride` apart. Grid: (columns / block, chunks).
KERNEL column_partials(float* partial, const Real* x, u32 rows, u32 width, u32 stride, u32 per_chunk) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    u32 first = blockIdx.y * per_chunk, last = min(rows, first + per_chunk);
    float sum = 0.0f;
    for (u32 row = first; row < last; ++row) sum += widen(x[(u64)row * stride + column]);
    partial[(u64)blockIdx.y * width + column] = sum;
}

// target [width] += the rows of partial [rows, stride], whose first `width` columns count. Grid: columns / block.
KERNEL add_columns(float* target, const float* partial, u32 rows, u32 width, u32 stride) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) return;
    float sum = 0.0f;
    for (u32 row = 0; row < rows; ++row) sum += partial[(u64)row * stride + column];
    target[column] += sum;
}

INLINE float logistic(float value) { return 1.0f / (1.0f + expf(-value)); }

// out [rows, width] = silu(gate) · up, where each row of gate_up [rows, 2 · width] holds the gate and then the up part.
// Grid: (rows, columns / (block · PACK)).
KERNEL swiglu(Real* out, const Real* gate_up, u32 width) {
    u32 at = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (at >= width) return;
    const Real* row = gate_up + (u64)blockIdx.x * 2 * width;
    Pack gate = *(const Pack*)(row + at), up = *(const Pack*)(row + width + at);
    for (int i = 0; i < PACK; ++i) {
        float g = widen(gate.v[i]);
        gate.v[i] = narrow(g * logistic(g) * widen(up.v[i]));
    }
    *(Pack*)(out + (u64)blockIdx.x * width + at) = gate;
}

// From dout, the gradient of the activation: gate_up becomes its own gradient. Grid as for swiglu.
KERNEL swiglu_backward(Real* gate_up, const Real* dout, u32 width) {
    u32 at = (blockIdx.y * blockDim.x + threadIdx.x) * PACK;
    if (at >= width) return;
    Real* row = gate_up + (u64)blockIdx.x * 2 * width;
    Pack gate = *(const Pack*)(row + at), up = *(const Pack*)(row + width + at);
    Pack d = *(const Pack*)(dout + (u64)blockIdx.x * width + at);
    for (int i = 0; i < PACK; ++i) {
        float g = widen(gate.v[i]), u = widen(up.v[i]), gradient = widen(d.v[i]);
        float sigmoid = logistic(g);
        up.v[i] = narrow(gradient * g * sigmoid);
        gate.v[i] = narrow(gradient * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
    }
    *(Pack*)(row + at) = gate, *(Pack*)(row + width + at) = up;
}

// out = base + x · (kept / (1 − rate)), base may be null or out. Which numbers are kept follows from the seed alone.
KERNEL dropout(Real* out, const Real* base, const Real* x, u64 length, u64 seed, float rate) {
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < length; at += step) {
        float value = (float)(scramble(seed, at) >> 40) * (1.0f / 16777216.0f) < rate ? 0.0f : widen(x[at]) / (1.0f - rate);
        out[at] = narrow(base ? widen(base[at]) + value : value);
    }
}

KERNEL narrow_all(Real* out, const float* x, u64 length) {
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < length; at += step) out[at] = narrow(x[at]);
}

KERNEL add_all(float* target, const float* x, u64 length) {
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < length; at += step) target[at] += x[at];
}
