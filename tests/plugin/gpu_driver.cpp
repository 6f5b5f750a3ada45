// The plugin's launches as C functions over arrays in device memory, for tests and timings.
#include "launch.h"

extern "C" size_t cada_gpu_workspace(const cada::Parameters* parameters, const cada::Extent* extents, int batch) {
    return cada::workspace_bytes(*parameters, extents, batch);
}

extern "C" int cada_gpu_launch(const cada::Parameters* parameters, int batch, int half, const cada::Extent* extents,
                               const void* const* inputs, float* map, float* score, void* workspace, void* stream) {
    cada::Call call = {};
    call.batch = batch, call.element = half ? cada::Element::kHalf : cada::Element::kFloat;
    for (int i = 0; i < parameters->scales; ++i) call.extents[i] = extents[i];
    for (int i = 0; i < parameters->inputs(); ++i) call.inputs[i] = inputs[i];
    call.map = map, call.score = score, call.workspace = workspace;
    return cada::launch(*parameters, call, static_cast<CUstream_st*>(stream));
}
