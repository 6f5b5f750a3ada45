// Attributes of the ONNX node, as TensorRT hands them over and as an engine keeps them.
#pragma once

#include <NvInferRuntime.h>

#include "parameters.h"

namespace cada {

// Says on standard error what is wrong; TensorRT reports where.
void complain(const char* what, const char* name = "");

// Reads every field. False, after a complaint, when one is missing, of another type or out of range.
bool read_fields(const nvinfer1::PluginFieldCollection* fields, Parameters& parameters);

// Names and types, for the parser.
const nvinfer1::PluginFieldCollection* field_names();

// Fields that point into `parameters`, which read_fields turns into the same parameters.
class FieldsOf {
  public:
    const nvinfer1::PluginFieldCollection* collect(const Parameters& parameters);

  private:
    int32_t map_size_[2] = {};
    nvinfer1::PluginField fields_[7];
    nvinfer1::PluginFieldCollection collection_ = {};
};

}  // namespace cada
