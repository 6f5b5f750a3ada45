// What CadaNormalize is told, and what its kernels are handed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cada {

constexpr int kMaxScales = 8;
constexpr int kMaxTaps = 31;
constexpr int kMaxSide = 4096;  // of a map or a layer: twice its square fits an int

enum class Mode : int32_t { kFeatures = 0, kDistances = 1 };
enum class Element : int32_t { kFloat = 0, kHalf = 1 };

// The node's attributes.
struct Parameters {
    Mode mode = Mode::kFeatures;
    int scales = 0;
    float levels[kMaxScales] = {};
    int rows = 0, columns = 0;
    int taps = 0;
    float window[kMaxTaps] = {};
    int top_k = 0;
    float min_spread = 0.0f, cosine_floor = 0.0f;

    int tensors() const { return mode == Mode::kFeatures ? 2 * scales : scales; }
    int inputs() const { return tensors() + 2; }  // then u and gamma
};

// Why the parameters cannot be used, or nullptr.
inline const char* fault(const Parameters& p) {
    if (p.scales < 1 || p.scales > kMaxScales) return "levels: expected 1 to 8 numbers";
    for (int i = 0; i < p.scales; ++i) {
        if (!(p.levels[i] > 0.0f && p.levels[i] <= 3.4e38f)) return "levels: expected finite numbers > 0";
    }
    if (p.rows < 1 || p.columns < 1 || p.rows > kMaxSide || p.columns > kMaxSide) return "map_size: expected 1 to 4096";
    if (p.taps < 1 || p.taps > kMaxTaps || p.taps % 2 == 0) return "window: expected an odd number of weights, 1 to 31";
    if (p.top_k < 1 || p.top_k > p.rows * p.columns) return "top_k: expected 1 to the number of cells of the map";
    if (!(p.min_spread > 0.0f)) return "min_spread: expected a number > 0";
    if (!(p.cosine_floor >= 0.0f)) return "cosine_floor: expected a number >= 0";
    return nullptr;
}

// Size of one scale; channels is 1 for a map of distances.
struct Extent {
    int channels, height, width;
};

// One scale of features, (N, channels, height, width), and where its distances go.
struct FeatureScale {
    const void* teacher;
    const void* student;
    float* distance;
    int channels, height, width;
    int vector;  // pixels per load
    int tiles;   // blocks per image
};

struct FeatureArguments {
    FeatureScale scale[kMaxScales];
    unsigned* tickets;
    float cosine_floor;
};

// One map of distances, (N, height, width).
struct Layer {
    const float* cells;
    int height, width;
    float level;
};

struct MapArguments {
    Layer layer[kMaxScales];
    float window[kMaxTaps];
    int layers, taps, rows, columns;
    unsigned top_k;
    float min_spread;
    const float* u;
    const float* gamma;
    float* map;
    float* score;
    unsigned* tickets;  // blocks of each image that are done
};

}  // namespace cada
