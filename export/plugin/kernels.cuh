// The two kernels of CadaNormalize. docs/plugin.md specifies their arithmetic to the bit.
//
// One source: nvcc compiles it for GPUs, and g++ through host/cuda_shim.h for the CPU. It is
// compiled without contraction (--fmad=false, -ffp-contract=off), so that a*b+c rounds twice and
// fmaf once everywhere.
#pragma once

#include "parameters.h"

namespace cada {

constexpr int kWarp = 32;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocks = 3;                          // a multiprocessor, at least
constexpr int kPixelLanes = 8;                      // 16-byte loads: 128 contiguous bytes per channel
constexpr int kSlices = kThreads / kPixelLanes;     // channels summed side by side
constexpr int kTileRows = 8, kTileColumns = 32;     // of the map, one thread a cell
constexpr int kReach = kMaxTaps / 2;
constexpr int kHaloColumns = kTileColumns + 2 * kReach;
constexpr int kHaloCells = (kTileRows + 2 * kReach) * kHaloColumns;
constexpr int kCachedCells = 4096;                  // of a map, held in shared memory for the score
static_assert(kTileRows * kTileColumns == kThreads, "one thread a cell");
static_assert(kHaloCells + kTileRows * kHaloColumns <= kCachedCells, "both stages share the score's memory");

constexpr unsigned kWholeWarp = 0xffffffffu;

// V neighbouring values, loaded at once.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
    T value[V];
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }

// -- distances ------------------------------------------------------------------------------------

// The three sums behind a cosine, for V neighbouring pixels.
template <int V>
struct Sums {
    float dot[V], teacher[V], student[V];
};

// Channels slice, slice + kSlices, ... of V pixels, in this order.
template <typename T, int V>
__device__ inline Sums<V> sum_channels(const T* teacher, const T* student, int slice, int channels, size_t pixels) {
    Sums<V> sums = {};
#pragma unroll 4
    for (int c = slice; c < channels; c += kSlices) {
        const auto t = *reinterpret_cast<const Pack<T, V>*>(teacher + c * pixels);
        const auto s = *reinterpret_cast<const Pack<T, V>*>(student + c * pixels);
#pragma unroll
        for (int v = 0; v < V; ++v) {
            const float a = to_float(t.value[v]), b = to_float(s.value[v]);
            sums.dot[v] = fmaf(a, b, sums.dot[v]);
            sums.teacher[v] = fmaf(a, a, sums.teacher[v]);
            sums.student[v] = fmaf(b, b, sums.student[v]);
        }
    }
    return sums;
}

// Adds up the slices within each warp: lanes that are a multiple of kPixelLanes apart.
template <int V>
__device__ inline void add_lanes(Sums<V>& sums) {
#pragma unroll
    for (int apart = kPixelLanes; apart < kWarp; apart *= 2) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            sums.dot[v] += __shfl_xor_sync(kWholeWarp, sums.dot[v], apart);
            sums.teacher[v] += __shfl_xor_sync(kWholeWarp, sums.teacher[v], apart);
            sums.student[v] += __shfl_xor_sync(kWholeWarp, sums.student[v], apart);
        }
    }
}

__device__ inline float cosine_distance(float dot, float teacher, float student, float floor) {
    const float inverse_norm = 1.0f / sqrtf(teacher * student + floor);
    return 1.0f - dot * inverse_norm;
}

// One block: kPixelLanes * V pixels of one scale of one image, all channels.
template <typename T, int V>
__device__ inline void distance_tile(const FeatureScale& scale, int tile, size_t image, float floor, float* shared) {
    constexpr int kPixels = kPixelLanes * V;
    const int lane = threadIdx.x % kPixelLanes, slice = threadIdx.x / kPixelLanes, warp = threadIdx.x / kWarp;
    const size_t pixels = static_cast<size_t>(scale.height) * scale.width;
    const size_t first = static_cast<size_t>(tile) * kPixels, mine = first + lane * V;
    Sums<V> sums = {};
    if (mine < pixels) {  // whole packs: V divides the number of pixels
        const size_t offset = image * scale.channels * pixels + mine;
        sums = sum_channels<T, V>(static_cast<const T*>(scale.teacher) + offset,
                                  static_cast<const T*>(scale.student) + offset, slice, scale.channels, pixels);
    }
    add_lanes(sums);
    if (threadIdx.x % kWarp < kPixelLanes) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            float* slot = shared + (warp * kPixels + lane * V + v) * 3;
            slot[0] = sums.dot[v], slot[1] = sums.teacher[v], slot[2] = sums.student[v];
        }
    }
    __syncthreads();  // [barrier: sums of every warp are there]
    const size_t pixel = first + threadIdx.x;
    if (threadIdx.x >= kPixels || pixel >= pixels) return;
    float dot = 0.0f, teacher = 0.0f, student = 0.0f;
    for (int w = 0; w < kWarps; ++w) {
        const float* slot = shared + (w * kPixels + threadIdx.x) * 3;
        dot += slot[0], teacher += slot[1], student += slot[2];
    }
    scale.distance[image * pixels + pixel] = cosine_distance(dot, teacher, student, floor);
}

// Grid: (tiles of all scales, images). Cosine distance of every pixel of every scale.
template <typename T>
__global__ void __launch_bounds__(kThreads, kBlocks) distance_kernel(const __grid_constant__ FeatureArguments arguments) {
    constexpr int kVector = 16 / sizeof(T);
    __shared__ float shared[kWarps * kPixelLanes * kVector * 3];
    const size_t image = blockIdx.y;
    int tile = blockIdx.x, i = 0;
    if (tile == 0 && threadIdx.x == 0) arguments.tickets[image] = 0;  // for the other kernel
    while (tile >= arguments.scale[i].tiles) tile -= arguments.scale[i++].tiles;
    const FeatureScale& scale = arguments.scale[i];
    if (scale.vector == kVector) {
        distance_tile<T, kVector>(scale, tile, image, arguments.cosine_floor, shared);
    } else {
        distance_tile<T, 1>(scale, tile, image, arguments.cosine_floor, shared);
    }
}

// -- map ------------------------------------------------------------------------------------------

// Where a cell of the map lies between two cells of a layer; half-pixel centres, edges replicated.
struct Between {
    int low, high;
    float share;  // of `high`
};

// ((2 i + 1) source - target) / (2 target) in whole numbers, hence without rounding.
__device__ inline Between between(int i, int source, int target) {
    const int position = (2 * i + 1) * source - target;
    const int clamped = position < 0 ? 0 : position;
    const int low = clamped / (2 * target);
    const float share = static_cast<float>(clamped % (2 * target)) / static_cast<float>(2 * target);
    return {low, low + 1 < source ? low + 1 : low, share};
}

// A neighbour without a share has no say, be it infinite: a map of the same size stays as it is.
__device__ inline float blend(float low, float high, float share) {
    return share == 0.0f ? low : (1.0f - share) * low + share * high;
}

__device__ inline float upsampled(const Layer& layer, size_t image, int row, int column, int rows, int columns) {
    const Between y = between(row, layer.height, rows), x = between(column, layer.width, columns);
    const float* cells = layer.cells + image * layer.height * layer.width;
    const float* low = cells + static_cast<size_t>(y.low) * layer.width;
    const float* high = cells + static_cast<size_t>(y.high) * layer.width;
    const float upper = blend(low[x.low] / layer.level, low[x.high] / layer.level, x.share);
    const float lower = blend(high[x.low] / layer.level, high[x.high] / layer.level, x.share);
    return blend(upper, lower, y.share);
}

__device__ inline float mean_of_layers(const MapArguments& arguments, size_t image, int row, int column) {
    float sum = upsampled(arguments.layer[0], image, row, column, arguments.rows, arguments.columns);
    for (int i = 1; i < arguments.layers; ++i) {
        sum += upsampled(arguments.layer[i], image, row, column, arguments.rows, arguments.columns);
    }
    return sum / static_cast<float>(arguments.layers);
}

__device__ inline int clamped(int i, int size) { return i < 0 ? 0 : (i < size ? i : size - 1); }

// The tile and `reach` cells around it, edges of the map replicated.
__device__ inline void fill_halo(const MapArguments& a, size_t image, int top, int left, int reach, float* halo) {
    const int rows = kTileRows + 2 * reach, columns = kTileColumns + 2 * reach;
    for (int i = threadIdx.x; i < rows * columns; i += kThreads) {
        const int row = clamped(top - reach + i / columns, a.rows), column = clamped(left - reach + i % columns, a.columns);
        halo[i] = mean_of_layers(a, image, row, column);
    }
}

__device__ inline float weighted(const MapArguments& a, const float* cells, int stride) {
    float sum = a.window[0] * cells[0];
    for (int t = 1; t < a.taps; ++t) sum += a.window[t] * cells[t * stride];
    return sum;
}

// Smoothed down the columns, then along the row: the cell of this thread.
__device__ inline float smoothed(const MapArguments& a, int reach, const float* halo, float* smooth_columns) {
    const int columns = kTileColumns + 2 * reach;
    for (int i = threadIdx.x; i < kTileRows * columns; i += kThreads) smooth_columns[i] = weighted(a, halo + i, columns);
    __syncthreads();  // [barrier: columns are smooth]
    return weighted(a, smooth_columns + threadIdx.x / kTileColumns * columns + threadIdx.x % kTileColumns, 1);
}

__device__ inline float aligned(float value, float u, float gamma, float min_spread) {
    const float gap = gamma - u;
    return (value - u) / (gap < min_spread ? min_spread : gap);  // NaN stays NaN
}

// -- score ----------------------------------------------------------------------------------------

// A number whose unsigned order is the order of the floats.
__device__ inline unsigned order_of(float x) {
    const unsigned bits = __float_as_uint(x);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

__device__ inline float value_of(unsigned order) {
    return __uint_as_float(order ^ (order >> 31 ? 0x80000000u : 0xffffffffu));
}

// Sum over the block, the same in every thread. `slots` must rest for one barrier between two uses.
template <typename T>
__device__ inline T block_sum(T value, T (&slots)[kWarps]) {
    for (int apart = kWarp / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(kWholeWarp, value, apart);
    if (threadIdx.x % kWarp == 0) slots[threadIdx.x / kWarp] = value;
    __syncthreads();  // [barrier: slots are filled]
    T sum = slots[0];
    for (int w = 1; w < kWarps; ++w) sum += slots[w];
    return sum;
}

struct Scratch {
    unsigned counts[2][kWarps];
    double sums[kWarps];
};

// How many of `cells` values satisfy a condition.
template <typename Holds>
__device__ inline unsigned block_count(int cells, unsigned (&slots)[kWarps], Holds holds) {
    unsigned count = 0;
    for (int i = threadIdx.x; i < cells; i += kThreads) count += holds(i) ? 1u : 0u;
    return block_sum(count, slots);
}

// Mean of the k highest of `cells` values; NaN when one of them is. The k-th highest is found bit by
// bit: the greatest threshold that at least k values reach. Equal values there enter as often as needed.
template <typename Read>
__device__ inline float top_mean(Read read, int cells, unsigned k, Scratch& scratch) {
    int turn = 0;
    const unsigned nans = block_count(cells, scratch.counts[turn], [&](int i) { return read(i) != read(i); });
    unsigned threshold = 0, reached = static_cast<unsigned>(cells);
    for (int bit = 31; bit >= 0 && reached != k; --bit) {
        const unsigned candidate = threshold | 1u << bit;
        turn ^= 1;
        const unsigned count =
            block_count(cells, scratch.counts[turn], [&](int i) { return order_of(read(i)) >= candidate; });
        if (count >= k) threshold = candidate, reached = count;
    }
    const unsigned least = reached == k ? threshold : threshold + 1;  // what lies above the ties
    double sum = 0.0;
    for (int i = threadIdx.x; i < cells; i += kThreads) sum += order_of(read(i)) >= least ? read(i) : 0.0f;
    turn ^= 1;
    const unsigned above = block_count(cells, scratch.counts[turn], [&](int i) { return order_of(read(i)) >= least; });
    sum = block_sum(sum, scratch.sums);
    if (above < k) sum += static_cast<double>(k - above) * value_of(threshold);
    return nans ? __uint_as_float(0x7fc00000u) : static_cast<float>(sum / k);
}

// Whether this block is the last of its image to come here; all that the others wrote is then visible.
__device__ inline bool is_last(unsigned* ticket, unsigned blocks, unsigned& drawn) {
    __threadfence();
    __syncthreads();  // [barrier: the tile is written]
    if (threadIdx.x == 0) drawn = atomicAdd(ticket, 1u);
    __syncthreads();  // [barrier: the ticket is drawn]
    __threadfence();
    return drawn == blocks - 1;
}

__device__ inline float score_of(const float* map, int cells, unsigned k, float* cache, Scratch& scratch) {
    if (cells > kCachedCells) return top_mean([=](int i) { return __ldcg(map + i); }, cells, k, scratch);
    for (int i = threadIdx.x; i < cells; i += kThreads) cache[i] = __ldcg(map + i);
    // Each thread reads only the cells it has put there itself: no barrier.
    return top_mean([=](int i) { return cache[i]; }, cells, k, scratch);
}

// Grid: (tiles of the map, images). The aligned map; the last block of each image makes its score.
__global__ void __launch_bounds__(kThreads, kBlocks) map_kernel(const __grid_constant__ MapArguments arguments) {
    __shared__ float shared[kCachedCells];
    __shared__ Scratch scratch;
    __shared__ unsigned drawn;
    const size_t image = blockIdx.y;
    const int across = (arguments.columns + kTileColumns - 1) / kTileColumns, reach = arguments.taps / 2;
    const int top = blockIdx.x / across * kTileRows, left = blockIdx.x % across * kTileColumns;
    fill_halo(arguments, image, top, left, reach, shared);
    __syncthreads();  // [barrier: the halo is filled]
    const float value = smoothed(arguments, reach, shared, shared + kHaloCells);
    const int row = top + threadIdx.x / kTileColumns, column = left + threadIdx.x % kTileColumns;
    const int cells = arguments.rows * arguments.columns;
    float* map = arguments.map + image * cells;
    if (row < arguments.rows && column < arguments.columns) {
        map[row * arguments.columns + column] =
            aligned(value, arguments.u[image], arguments.gamma[image], arguments.min_spread);
    }
    if (!is_last(arguments.tickets + image, gridDim.x, drawn)) return;
    const float score = score_of(map, cells, arguments.top_k, shared, scratch);
    if (threadIdx.x == 0) arguments.score[image] = score;
}

}  // namespace cada
