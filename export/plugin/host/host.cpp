// The plugin's arithmetic as a C function over arrays in host memory.
#include <cstdint>
#include <memory>

#include "../launch.h"
#include "cuda_shim.h"

#define CADA_EXPORT extern "C" __attribute__((visibility("default")))

// `inputs`: teachers and students, or layers, then u and gamma. nullptr, or what is wrong.
CADA_EXPORT const char* cada_host_run(const cada::Parameters* parameters, int32_t batch, int32_t half,
                                      const cada::Extent* extents, const void* const* inputs, float* map,
                                      float* score) {
    const char* wrong = cada::fault(*parameters);
    if (wrong != nullptr) return wrong;
    cada::Call call = {};
    call.batch = batch, call.element = half ? cada::Element::kHalf : cada::Element::kFloat;
    for (int i = 0; i < parameters->scales; ++i) call.extents[i] = extents[i];
    for (int i = 0; i < parameters->inputs(); ++i) call.inputs[i] = inputs[i];
    call.map = map, call.score = score;
    wrong = cada::fault(*parameters, call);
    if (wrong != nullptr) return wrong;
    const size_t bytes = cada::workspace_bytes(*parameters, call.extents, batch);
    const std::unique_ptr<float[]> workspace(new float[bytes / sizeof(float)]);
    call.workspace = workspace.get();
    return cada::launch(*parameters, call, nullptr) == 0 ? nullptr : "the launch failed";
}

CADA_EXPORT int32_t cada_host_submitted() { return shim::submitted; }

CADA_EXPORT void cada_host_schedule(int32_t schedule) { shim::schedule = static_cast<shim::Schedule>(schedule); }
