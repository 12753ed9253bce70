// Runs the kernels on the processor: what CUDA C++ gives a kernel, for a C++ compiler.
//
// A block's threads are fibers of one thread; they give way at barriers and at what a warp does together. A barrier that some
// threads never reach, a warp that does not shuffle together, and writes beyond the dynamic shared memory end the process with a
// message. Threads run in ascending or (order = 1) descending order: a result that differs between the two is a race.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#define EMULATED
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define INFINITY_F HUGE_VALF

struct Place {
    unsigned x, y, z;
};
static thread_local Place threadIdx, blockIdx, blockDim, gridDim;

static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

namespace emulator {

const unsigned WIDTH = 32, MOST = 1024, STACK = 1 << 16, GUARD = 4096;
enum State { READY, AT_BLOCK, AT_WARP, DONE };

struct Fiber {
    void* stack_pointer;
    State state;
    unsigned exchanges;
};

struct Block {
    Fiber fibers[MOST];
    char* stacks;
    void* scheduler;
    unsigned current, threads;
    void (*body)(void**);
    void** arguments;
    unsigned char* shared;
    // What the lanes of a warp give each other; two sets, so that one barrier a time is enough.
    uint64_t words[2][MOST];
    float a[2][MOST][8], b[2][MOST][4];
};
static thread_local Block* block;

[[noreturn]] static void fail(const char* what) {
    fprintf(stderr, "emulator: %s (block %u %u %u, thread %u)\n", what, blockIdx.x, blockIdx.y, blockIdx.z, block->current);
    abort();
}

extern "C" void emulator_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.text
.hidden emulator_switch
.globl emulator_switch
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#else
#error "the emulator switches fibers on x86-64 only"
#endif

static void yield(State state) {
    Block* own = block;
    unsigned index = own->current;
    own->fibers[index].state = state;
    emulator_switch(&own->fibers[index].stack_pointer, own->scheduler);
    threadIdx = {index, 0, 0};
}

static void entry() {
    block->body(block->arguments);
    yield(DONE);
    fail("a finished thread ran on");
}

static void prepare(unsigned index) {
    // The stack as emulator_switch leaves it: six registers, then where to return to. At a function's entry the pointer is 8
    // beyond a multiple of 16.
    uint64_t* top = (uint64_t*)(block->stacks + (size_t)(index + 1) * STACK) - 1;
    *--top = (uint64_t)entry;
    for (int i = 0; i < 6; ++i) *--top = 0;
    block->fibers[index] = {top, READY, 0};
}

static void resume(unsigned index) {
    block->current = index;
    threadIdx = {index, 0, 0};
    emulator_switch(&block->scheduler, block->fibers[index].stack_pointer);
}

static void run_block(int order) {
    unsigned threads = block->threads, warps = (threads + WIDTH - 1) / WIDTH;
    for (unsigned index = 0; index < threads; ++index) prepare(index);
    while (true) {
        for (unsigned w = 0; w < warps; ++w) {
            unsigned first = (order ? warps - 1 - w : w) * WIDTH, lanes = min(WIDTH, threads - first);
            while (true) {
                for (unsigned l = 0; l < lanes; ++l) {
                    unsigned index = first + (order ? lanes - 1 - l : l);
                    if (block->fibers[index].state == READY) resume(index);
                }
                unsigned waiting = 0;
                for (unsigned l = 0; l < lanes; ++l) waiting += block->fibers[first + l].state == AT_WARP;
                if (waiting == 0) break;
                if (waiting != lanes || lanes != WIDTH) fail("not all lanes of a warp take part");
                for (unsigned l = 0; l < lanes; ++l) block->fibers[first + l].state = READY;
            }
        }
        unsigned done = 0;
        for (unsigned index = 0; index < threads; ++index) done += block->fibers[index].state == DONE;
        if (done == threads) return;
        if (done != 0) fail("a barrier that not all threads reach");
        for (unsigned index = 0; index < threads; ++index) block->fibers[index].state = READY;
    }
}

static void launch(void (*body)(void**), const unsigned* grid, unsigned threads, unsigned shared, void** arguments, int order) {
    if (!block) {
        block = new Block();
        block->stacks = (char*)aligned_alloc(4096, (size_t)MOST * STACK);
    }
    if (threads == 0 || threads > MOST || shared > 227 * 1024 || grid[1] > 65535 || grid[2] > 65535) {
        fprintf(stderr, "emulator: no device launches %u threads, %u bytes, grid %u %u %u\n", threads, shared, grid[0], grid[1], grid[2]);
        abort();
    }
    unsigned char* memory = (unsigned char*)aligned_alloc(4096, (shared + 2 * GUARD - 1) / GUARD * GUARD);
    block->shared = memory, block->body = body, block->arguments = arguments, block->threads = threads;
    blockDim = {threads, 1, 1}, gridDim = {grid[0], grid[1], grid[2]};
    size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
    for (size_t i = 0; i < blocks; ++i) {
        size_t at = order ? blocks - 1 - i : i;
        blockIdx = {(unsigned)(at % grid[0]), (unsigned)(at / grid[0] % grid[1]), (unsigned)(at / grid[0] / grid[1])};
        // Every byte 255 makes a NaN of whatever is read before it is written.
        memset(memory, 255, shared + 64);
        run_block(order);
        for (unsigned byte = 0; byte < 64; ++byte)
            if (memory[shared + byte] != 255) fail("a write beyond the shared memory of the launch");
    }
    free(memory);
}

template <class T>
static T exchange(T value, unsigned from) {
    Block* own = block;
    unsigned index = own->current, set = own->fibers[index].exchanges++ % 2;
    memcpy(&own->words[set][index], &value, sizeof(T));
    yield(AT_WARP);
    T out;
    memcpy(&out, &own->words[set][index / WIDTH * WIDTH + from % WIDTH], sizeof(T));
    return out;
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*(A*)arguments[I]...);
}
template <class... A>
static void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>());
}

}  // namespace emulator

static inline void __syncthreads() { emulator::yield(emulator::AT_BLOCK); }
template <class T>
static inline T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulator::exchange(value, threadIdx.x % emulator::WIDTH ^ (unsigned)mask);
}
template <class T>
static inline T __shfl_sync(unsigned, T value, unsigned lane) {
    return emulator::exchange(value, lane);
}
#define DYNAMIC_SHARED(type, name) type* name = (type*)emulator::block->shared

// C += A · B with the matrices spread over a warp as mma.sync.m16n8k16 spreads them; written from the matrices' side, not from
// the fragments': element (row, k) of A lies in lane (row % 8) · 4 + (k % 8) / 2.
static inline void emulated_mma(float c[4], const float a[8], const float b[4]) {
    emulator::Block* own = emulator::block;
    unsigned index = own->current, set = own->fibers[index].exchanges++ % 2, first = index / 32 * 32, lane = index % 32;
    memcpy(own->a[set][index], a, sizeof(float) * 8);
    memcpy(own->b[set][index], b, sizeof(float) * 4);
    emulator::yield(emulator::AT_WARP);
    for (unsigned i = 0; i < 4; ++i) {
        unsigned row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
        float sum = c[i];
        for (unsigned k = 0; k < 16; ++k) {
            float left = own->a[set][first + row % 8 * 4 + k % 8 / 2][k % 2 + row / 8 * 2 + k / 8 * 4];
            float right = own->b[set][first + column * 4 + k % 8 / 2][k % 2 + k / 8 * 2];
            sum += left * right;
        }
        c[i] = sum;
    }
}

// ldmatrix.m8n8.x4: rows are named by the lanes, four matrices of eight.
static inline void emulated_ldmatrix(unsigned r[4], const void* row, bool turned) {
    if ((uintptr_t)row % 16) emulator::fail("a row of ldmatrix that is not aligned");
    emulator::Block* own = emulator::block;
    unsigned index = own->current, set = own->fibers[index].exchanges++ % 2, first = index / 32 * 32, lane = index % 32;
    own->words[set][index] = (uint64_t)row;
    emulator::yield(emulator::AT_WARP);
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
        const uint64_t* rows = &own->words[set][first + matrix * 8];
        auto at = [&](unsigned y, unsigned x) -> unsigned { return ((const uint16_t*)rows[y])[x]; };
        unsigned two = 2 * (lane % 4), group = lane / 4;
        r[matrix] = turned ? at(two, group) | at(two + 1, group) << 16 : at(group, two) | at(group, two + 1) << 16;
    }
}
