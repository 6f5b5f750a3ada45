// As much of CUDA as the kernels need, on the CPU: one fibre per CUDA thread, one block after another.
//
// __syncthreads and the warp shuffles switch fibres; a thread runs on until it comes to one. The
// order in which threads run can be reversed, and blocks held where they draw their ticket, so that
// a forgotten barrier shows in the numbers (see Schedule).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __shared__ static thread_local
#define __grid_constant__
#define __launch_bounds__(threads, blocks)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaError_t : int { cudaSuccess = 0 };

extern thread_local dim3 threadIdx, blockIdx, gridDim;

namespace shim {

enum class Schedule : int {
    kForward = 0,   // blocks and threads in order
    kReversed = 1,  // the threads of a block from the last to the first
    kHeld = 2,      // every block stops at its first atomicAdd; then the last block goes on first
};

extern Schedule schedule;
extern int submitted;  // what streams were given so far: kernels to launch and memory to clear

// Runs `thread` for every thread of every block. Ends the program when threads wait for each other.
void run_grid(dim3 grid, unsigned threads, const std::function<void()>& thread);

template <typename Kernel, typename Arguments>
void launch(Kernel kernel, dim3 grid, unsigned threads, const Arguments& arguments) {
    ++submitted;
    run_grid(grid, threads, [&] { kernel(arguments); });
}

uint64_t exchange(uint64_t mine, unsigned lane_mask);  // with another lane of the warp, all 32 together
void drew_ticket();

}  // namespace shim

void __syncthreads();
inline void __threadfence() {}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int lane_mask) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "one register or two");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = shim::exchange(bits, static_cast<unsigned>(lane_mask));
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

inline unsigned atomicAdd(unsigned* address, unsigned value) {
    const unsigned before = *address;
    *address = before + value;
    shim::drew_ticket();
    return before;
}

template <typename T>
T __ldcg(const T* address) {
    return *address;
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

struct __half {
    uint16_t bits;
};

// IEEE binary16 to binary32, exact.
inline float __half2float(__half half) {
    const unsigned sign = (half.bits & 0x8000u) << 16, magnitude = half.bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude >= 0x400u) return __uint_as_float(sign | ((magnitude << 13) + 0x38000000u));
    const float tiny = static_cast<float>(magnitude) * 0x1p-24f;  // subnormal or zero
    return sign ? -tiny : tiny;
}

using std::fmaf;
using std::sqrt;

inline cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t) {
    ++shim::submitted;
    std::memset(address, value, bytes);
    return cudaSuccess;
}

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
