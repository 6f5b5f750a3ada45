// From pointers and sizes to two launches.
#pragma once

#include "parameters.h"

struct CUstream_st;

namespace cada {

constexpr int kMaxBatch = 65535;  // grid's second dimension

// One call: sizes, and where everything lies. Features have `element`, all else is float32.
struct Call {
    int batch;
    Element element;
    Extent extents[kMaxScales];
    const void* inputs[2 * kMaxScales + 2];
    float* map;
    float* score;
    void* workspace;
};

// Bytes a call needs beside its inputs and outputs: a ticket an image, and the distances.
size_t workspace_bytes(const Parameters& parameters, const Extent* extents, int batch);

// Why a call cannot be made, or nullptr.
const char* fault(const Parameters& parameters, const Call& call);

// Enqueue it. Returns a cudaError_t, 0 for success; allocates nothing and waits for nothing.
int launch(const Parameters& parameters, const Call& call, CUstream_st* stream);

}  // namespace cada
