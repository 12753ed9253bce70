// Stands in for libcuda, libcublas and libnvrtc, so that the GPU's driver code runs where no GPU is: memory is the host's, modules
// are compiled by the C++ compiler behind shim.hpp, and products go column by column as cuBLAS takes them. What a real driver would
// refuse (no current context, too much shared memory, memory freed twice) is refused here as well.
//
// STAND_IN_FOLDER names a folder with shim.hpp and wrappers.hpp; STAND_IN_COMPILER the compiler.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

typedef int Result;  // CUresult, cublasStatus_t, nvrtcResult: 0 is success
typedef uint64_t Address;

static std::mutex lock;
static const size_t GUARD = 256;

// ---- context, memory -------------------------------------------------------------------------------------------------------------

static thread_local bool current = false;
#define IN_CONTEXT \
    if (!current) return 201 /* CUDA_ERROR_INVALID_CONTEXT */

static std::map<Address, size_t> allocated;

static Result allocate(Address* address, size_t bytes) {
    IN_CONTEXT;
    if (bytes == 0) return 1;
    unsigned char* start = (unsigned char*)aligned_alloc(GUARD, (bytes + 3 * GUARD - 1) / GUARD * GUARD);
    memset(start, 0xa5, bytes + 2 * GUARD);
    memset(start + GUARD, 0xff, bytes);
    *address = (Address)(start + GUARD);
    std::lock_guard<std::mutex> held(lock);
    allocated[*address] = bytes;
    return 0;
}

static Result release(Address address) {
    IN_CONTEXT;
    std::lock_guard<std::mutex> held(lock);
    auto found = allocated.find(address);
    if (found == allocated.end()) return 1;
    unsigned char* start = (unsigned char*)address - GUARD;
    for (size_t i = 0; i < GUARD; ++i)
        if (start[i] != 0xa5 || start[GUARD + found->second + i] != 0xa5) {
            fprintf(stderr, "stand-in: something was written beside a buffer of %zu bytes\n", found->second);
            abort();
        }
    allocated.erase(found);
    free(start);
    return 0;
}

static bool inside(Address address, size_t bytes) {
    std::lock_guard<std::mutex> held(lock);
    auto next = allocated.upper_bound(address);
    if (next == allocated.begin()) return false;
    --next;
    return address + bytes <= next->first + next->second;
}

static const uint64_t CONTEXT = 0xc0, STREAM = 0x57, POOL = 0xb0, HANDLE = 0x4a;
#define IS_STREAM(stream) \
    if ((uint64_t)(stream) != STREAM) return 400 /* CUDA_ERROR_INVALID_HANDLE */

extern "C" {
Result cuInit(unsigned) { return 0; }
Result cuDeviceGetCount(int* count) { return *count = 1, 0; }
Result cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal == 0 ? 0 : 101; }
Result cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "stand-in"), 0; }
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    // Capability 9.0, 227 KiB of shared memory where asked for, pageable memory read by the device, memory pools.
    *value = attribute == 88 ? 1 : attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 97 ? 232448 : attribute == 115 ? 1 : -1;
    return *value < 0 ? 1 : 0;
}
Result cuDevicePrimaryCtxRetain(uint64_t* context, int) { return *context = CONTEXT, 0; }
Result cuDevicePrimaryCtxRelease_v2(int) { return 0; }
Result cuCtxSetCurrent(uint64_t context) { return current = context == CONTEXT, current ? 0 : 201; }
Result cuStreamCreate(uint64_t* stream, unsigned) {
    IN_CONTEXT;
    return *stream = STREAM, 0;
}
Result cuStreamSynchronize(uint64_t stream) {
    IS_STREAM(stream);
    return 0;
}
Result cuStreamDestroy_v2(uint64_t stream) {
    IS_STREAM(stream);
    return 0;
}
Result cuDeviceGetDefaultMemPool(uint64_t* pool, int) { return *pool = POOL, 0; }
Result cuMemPoolSetAttribute(uint64_t pool, int attribute, void*) { return pool == POOL && attribute == 4 ? 0 : 1; }
Result cuMemAlloc_v2(Address* address, size_t bytes) { return allocate(address, bytes); }
Result cuMemAllocAsync(Address* address, size_t bytes, uint64_t stream) {
    IS_STREAM(stream);
    return allocate(address, bytes);
}
Result cuMemFree_v2(Address address) { return release(address); }
Result cuMemFreeAsync(Address address, uint64_t stream) {
    IS_STREAM(stream);
    return release(address);
}
Result cuMemGetInfo_v2(size_t* free, size_t* total) { return *free = 1 << 30, *total = 2u << 30, 0; }
Result cuMemsetD8Async(Address target, unsigned char value, size_t bytes, uint64_t stream) {
    IN_CONTEXT;
    IS_STREAM(stream);
    return inside(target, bytes) ? memset((void*)target, value, bytes), 0 : 1;
}
Result cuMemcpyHtoDAsync_v2(Address target, const void* source, size_t bytes, uint64_t stream) {
    IN_CONTEXT;
    IS_STREAM(stream);
    return inside(target, bytes) ? memcpy((void*)target, source, bytes), 0 : 1;
}
Result cuMemcpyDtoHAsync_v2(void* target, Address source, size_t bytes, uint64_t stream) {
    IN_CONTEXT;
    IS_STREAM(stream);
    return inside(source, bytes) ? memcpy(target, (void*)source, bytes), 0 : 1;
}
Result cuMemcpyDtoDAsync_v2(Address target, Address source, size_t bytes, uint64_t stream) {
    IN_CONTEXT;
    IS_STREAM(stream);
    return inside(source, bytes) && inside(target, bytes) ? memmove((void*)target, (void*)source, bytes), 0 : 1;
}
Result cuGetErrorString(Result, const char** text) { return *text = "refused by the stand-in", 0; }
Result cuGetErrorName(Result, const char** text) { return *text = "STAND_IN", 0; }

// ---- modules ---------------------------------------------------------------------------------------------------------------------

struct Function {
    void (*launch)(const unsigned*, unsigned, unsigned, void**, int);
    unsigned shared;
};

Result cuModuleLoadData(void** module, const void* image) {
    IN_CONTEXT;
    *module = dlopen((const char*)image, RTLD_NOW | RTLD_LOCAL);
    if (!*module) fprintf(stderr, "stand-in: %s\n", dlerror());
    return *module ? 0 : 200;
}
Result cuModuleGetFunction(Function** function, void* module, const char* name) {
    void* found = dlsym(module, (std::string("launch_") + name).c_str());
    if (!found) return 500;
    *function = new Function();
    memcpy(&(*function)->launch, &found, sizeof(void*));
    (*function)->shared = 48 * 1024;
    return 0;
}
Result cuFuncGetAttribute(int* value, int attribute, Function*) { return *value = 256, attribute == 1 ? 0 : 1; }
Result cuFuncSetAttribute(Function* function, int attribute, int value) {
    if (attribute != 8 || value + 256 > 232448) return 1;
    function->shared = value;
    return 0;
}
Result cuLaunchKernel(Function* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty, unsigned tz,
                      unsigned shared, uint64_t stream, void** arguments, void** extra) {
    IN_CONTEXT;
    IS_STREAM(stream);
    if (extra || ty != 1 || tz != 1 || shared > function->shared || x == 0 || y == 0 || z == 0) return 1;
    unsigned grid[3] = {x, y, z};
    function->launch(grid, threads, shared, arguments, 0);
    return 0;
}

// ---- NVRTC -----------------------------------------------------------------------------------------------------------------------

struct Program {
    std::string source, image;
};

Result nvrtcGetNumSupportedArchs(int* count) { return *count = 2, 0; }
Result nvrtcGetSupportedArchs(int* list) { return list[0] = 80, list[1] = 90, 0; }
Result nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char* const*, const char* const*) {
    *program = new Program{source, ""};
    return 0;
}
Result nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    static std::map<std::string, std::string> known;
    std::lock_guard<std::mutex> held(lock);
    std::string folder = getenv("STAND_IN_FOLDER"), macros;
    for (int i = 0; i < count; ++i)
        if (!strncmp(options[i], "-D", 2)) macros += std::string(" ") + options[i];
    std::string& image = known[macros];
    if (image.empty()) {
        std::string name = folder + "/module" + std::to_string(known.size());
        FILE* file = fopen((name + ".cpp").c_str(), "w");
        fprintf(file, "#include \"shim.hpp\"\n%s\n#include \"wrappers.hpp\"\n", program->source.c_str());
        fclose(file);
        std::string command = std::string(getenv("STAND_IN_COMPILER")) +
                              " -std=c++17 -O2 -shared -fPIC -fno-strict-aliasing -w -I" + folder + macros;
        if (system((command + " " + name + ".cpp -o " + name + ".so").c_str()) != 0) return 6;
        image = name + ".so";
    }
    program->image = image;
    return 0;
}
Result nvrtcGetCUBINSize(Program* program, size_t* size) { return *size = program->image.size() + 1, 0; }
Result nvrtcGetCUBIN(Program* program, char* image) { return strcpy(image, program->image.c_str()), 0; }
Result nvrtcGetProgramLogSize(Program*, size_t* size) { return *size = 1, 0; }
Result nvrtcGetProgramLog(Program*, char* log) { return *log = 0, 0; }
Result nvrtcDestroyProgram(Program** program) { return delete *program, 0; }

// ---- cuBLAS ----------------------------------------------------------------------------------------------------------------------

Result cublasCreate_v2(uint64_t* handle) {
    if (!current) return 1;
    return *handle = HANDLE, 0;
}
Result cublasDestroy_v2(uint64_t handle) { return handle == HANDLE ? 0 : 1; }
Result cublasSetStream_v2(uint64_t handle, uint64_t stream) { return handle == HANDLE && stream == STREAM ? 0 : 1; }
Result cublasSetMathMode(uint64_t handle, int) { return handle == HANDLE ? 0 : 1; }

static size_t size_of(int type) { return type == 0 ? 4 : 2; }
static float get(const void* matrix, int type, size_t at) {
    // CUDA_R_32F is 0, CUDA_R_16BF 14.
    if (type == 0) return ((const float*)matrix)[at];
    uint32_t bits = (uint32_t)((const uint16_t*)matrix)[at] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Column by column: op(A) is m × k, op(B) k × n, C m × n; element (row, column) lies at row + column · leading dimension.
Result cublasGemmEx(uint64_t handle, int transpose_a, int transpose_b, int m, int n, int k, const float* alpha, const void* a,
                    int type_a, int lda, const void* b, int type_b, int ldb, const float* beta, void* c, int type_c, int ldc,
                    int compute, int) {
    bool types = (type_a == 0 || type_a == 14) && type_a == type_b && (type_c == 0 || type_c == type_a) && compute == 68;
    if (handle != HANDLE || !current || !types) return 7;
    if (lda < (transpose_a ? k : m) || ldb < (transpose_b ? n : k) || ldc < m) return 7;
    auto reach = [](int rows, int columns, int stride) { return (size_t)(columns - 1) * stride + rows; };
    if (!inside((Address)a, reach(transpose_a ? k : m, transpose_a ? m : k, lda) * size_of(type_a)) ||
        !inside((Address)b, reach(transpose_b ? n : k, transpose_b ? k : n, ldb) * size_of(type_b)) ||
        !inside((Address)c, reach(m, n, ldc) * size_of(type_c)))
        return 7;
    for (int column = 0; column < n; ++column)
        for (int row = 0; row < m; ++row) {
            float sum = 0.0f;
            for (int i = 0; i < k; ++i) {
                size_t left = transpose_a ? i + (size_t)row * lda : row + (size_t)i * lda;
                size_t right = transpose_b ? column + (size_t)i * ldb : i + (size_t)column * ldb;
                sum += get(a, type_a, left) * get(b, type_b, right);
            }
            size_t at = row + (size_t)column * ldc;
            float value = *alpha * sum + (*beta == 0.0f ? 0.0f : *beta * get(c, type_c, at));
            if (type_c == 0) {
                ((float*)c)[at] = value;
            } else {
                uint32_t bits;
                memcpy(&bits, &value, 4);
                ((uint16_t*)c)[at] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
            }
        }
    return 0;
}
}
