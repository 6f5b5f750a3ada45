// Grids and arguments of the two kernels. nvcc compiles it, and g++ through host/cuda_shim.h.
#include "launch.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#define CADA_LAUNCH(kernel, grid, stream, arguments) kernel<<<grid, kThreads, 0, stream>>>(arguments)
#else
#include "host/cuda_shim.h"
#define CADA_LAUNCH(kernel, grid, stream, arguments) (void)stream, shim::launch(kernel, grid, kThreads, arguments)
#endif

#include "kernels.cuh"

namespace cada {
namespace {

constexpr size_t kAlignment = 256;

size_t aligned_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

size_t pixels(const Extent& extent) { return static_cast<size_t>(extent.height) * extent.width; }

bool fits(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

FeatureScale feature_scale(const Call& call, int i, float* distance) {
    const Extent& extent = call.extents[i];
    const int widest = call.element == Element::kHalf ? 8 : 4;
    const void *teacher = call.inputs[2 * i], *student = call.inputs[2 * i + 1];
    const bool whole = pixels(extent) % widest == 0 && fits(teacher, 16) && fits(student, 16);
    const int vector = whole ? widest : 1;
    const size_t per_tile = static_cast<size_t>(kPixelLanes) * vector;
    const int tiles = static_cast<int>((pixels(extent) + per_tile - 1) / per_tile);
    return {teacher, student, distance, extent.channels, extent.height, extent.width, vector, tiles};
}

MapArguments map_arguments(const Parameters& p, const Call& call, const float* const* cells) {
    MapArguments a = {};
    for (int i = 0; i < p.scales; ++i) a.layer[i] = {cells[i], call.extents[i].height, call.extents[i].width, p.levels[i]};
    for (int t = 0; t < p.taps; ++t) a.window[t] = p.window[t];
    a.layers = p.scales, a.taps = p.taps, a.rows = p.rows, a.columns = p.columns;
    a.top_k = static_cast<unsigned>(p.top_k), a.min_spread = p.min_spread;
    a.u = static_cast<const float*>(call.inputs[p.tensors()]);
    a.gamma = static_cast<const float*>(call.inputs[p.tensors() + 1]);
    a.map = call.map, a.score = call.score, a.tickets = static_cast<unsigned*>(call.workspace);
    return a;
}

void launch_distances(const Parameters& p, const Call& call, const float** cells, cudaStream_t stream) {
    FeatureArguments a = {};
    a.tickets = static_cast<unsigned*>(call.workspace), a.cosine_floor = p.cosine_floor;
    char* free = static_cast<char*>(call.workspace) + aligned_up(sizeof(unsigned) * call.batch);
    unsigned tiles = 0;
    for (int i = 0; i < p.scales; ++i) {
        cells[i] = reinterpret_cast<float*>(free);
        a.scale[i] = feature_scale(call, i, reinterpret_cast<float*>(free));
        tiles += static_cast<unsigned>(a.scale[i].tiles);
        free += aligned_up(sizeof(float) * call.batch * pixels(call.extents[i]));
    }
    const dim3 grid(tiles, static_cast<unsigned>(call.batch));
    if (call.element == Element::kHalf) {
        CADA_LAUNCH(distance_kernel<__half>, grid, stream, a);
    } else {
        CADA_LAUNCH(distance_kernel<float>, grid, stream, a);
    }
}

}  // namespace

size_t workspace_bytes(const Parameters& p, const Extent* extents, int batch) {
    size_t bytes = aligned_up(sizeof(unsigned) * batch);
    if (p.mode == Mode::kDistances) return bytes;
    for (int i = 0; i < p.scales; ++i) bytes += aligned_up(sizeof(float) * batch * pixels(extents[i]));
    return bytes;
}

const char* fault(const Parameters& p, const Call& call) {
    if (call.batch < 1 || call.batch > kMaxBatch) return "batch: expected 1 to 65535 images";
    for (int i = 0; i < p.scales; ++i) {
        const Extent& e = call.extents[i];
        if (e.channels < 1 || e.channels > 1 << 20) return "features: expected 1 to 2^20 channels";
        if (e.height < 1 || e.width < 1 || e.height > kMaxSide || e.width > kMaxSide) {
            return "features: expected 1 to 4096 rows and columns";
        }
    }
    return nullptr;
}

int launch(const Parameters& p, const Call& call, cudaStream_t stream) {
    const float* cells[kMaxScales] = {};
    if (p.mode == Mode::kFeatures) {
        launch_distances(p, call, cells, stream);
    } else {
        for (int i = 0; i < p.scales; ++i) cells[i] = static_cast<const float*>(call.inputs[i]);
        const cudaError_t cleared = cudaMemsetAsync(call.workspace, 0, sizeof(unsigned) * call.batch, stream);
        if (cleared != cudaSuccess) return static_cast<int>(cleared);
    }
    const unsigned tiles = static_cast<unsigned>((p.rows + kTileRows - 1) / kTileRows) *
                           static_cast<unsigned>((p.columns + kTileColumns - 1) / kTileColumns);
    const MapArguments arguments = map_arguments(p, call, cells);
    CADA_LAUNCH(map_kernel, dim3(tiles, static_cast<unsigned>(call.batch)), stream, arguments);
    return static_cast<int>(cudaGetLastError());
}

}  // namespace cada
