// CadaNormalize as a TensorRT plugin: IPluginV3, the same from TensorRT 10.3 to 11.
//
// It keeps no logger and no registry: their virtual tables differ between 10 and 11, those of the
// V3 classes do not. Nothing here throws: it is compiled without exceptions.
#include <NvInferRuntime.h>

#include <algorithm>
#include <new>

#include "fields.h"
#include "launch.h"

namespace cada {
namespace {

using namespace nvinfer1;

constexpr const char* kName = "CadaNormalize";
constexpr const char* kVersion = "2";
constexpr const char* kNamespace = "";
constexpr int32_t kDone = 0, kRefused = 1;

int narrowed(int64_t size) { return static_cast<int>(std::clamp<int64_t>(size, -1, 1 << 30)); }

// Sizes of one call; -1 where TensorRT does not know them yet.
Extent extent_of(const Dims& dims) {
    const int32_t last = dims.nbDims - 1;
    return {dims.nbDims == 4 ? narrowed(dims.d[1]) : 1, narrowed(dims.d[last - 1]), narrowed(dims.d[last])};
}

class Plugin final : public IPluginV3, public IPluginV3OneCore, public IPluginV3OneBuild, public IPluginV3OneRuntime {
  public:
    explicit Plugin(const Parameters& parameters) : parameters_(parameters) {}

    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
        if (type == PluginCapabilityType::kCORE) return static_cast<IPluginV3OneCore*>(this);
        if (type == PluginCapabilityType::kBUILD) return static_cast<IPluginV3OneBuild*>(this);
        return static_cast<IPluginV3OneRuntime*>(this);
    }

    IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(parameters_); }

    const char* getPluginName() const noexcept override { return kName; }
    const char* getPluginVersion() const noexcept override { return kVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }

    int32_t getNbOutputs() const noexcept override { return 2; }

    int32_t getOutputDataTypes(DataType* types, int32_t outputs, const DataType*, int32_t) const noexcept override {
        std::fill(types, types + outputs, DataType::kFLOAT);
        return kDone;
    }

    int32_t getOutputShapes(const DimsExprs* inputs, int32_t count, const DimsExprs*, int32_t, DimsExprs* outputs,
                            int32_t, IExprBuilder& builder) noexcept override {
        if (!takes(count)) return kRefused;
        const IDimensionExpr* batch = inputs[0].d[0];
        outputs[0].nbDims = 3;
        outputs[0].d[0] = batch;
        outputs[0].d[1] = builder.constant(parameters_.rows);
        outputs[0].d[2] = builder.constant(parameters_.columns);
        outputs[1].nbDims = 1;
        outputs[1].d[0] = batch;
        return kDone;
    }

    bool supportsFormatCombination(int32_t at, const DynamicPluginTensorDesc* tensors, int32_t inputs,
                                   int32_t) noexcept override {
        const PluginTensorDesc& tensor = tensors[at].desc;
        if (inputs != parameters_.inputs() || tensor.format != TensorFormat::kLINEAR) return false;
        if (parameters_.mode == Mode::kDistances || at >= parameters_.tensors()) return tensor.type == DataType::kFLOAT;
        if (at > 0) return tensor.type == tensors[0].desc.type;
        return tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;
    }

    int32_t configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t count, const DynamicPluginTensorDesc*,
                            int32_t) noexcept override {
        if (!takes(count)) return kRefused;
        for (int32_t i = 0; i < parameters_.tensors(); ++i) {
            if (!has_rank(inputs[i].desc.dims)) return kRefused;
        }
        return kDone;
    }

    size_t getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t, const DynamicPluginTensorDesc*,
                            int32_t) const noexcept override {
        Extent extents[kMaxScales] = {};
        for (int i = 0; i < parameters_.scales; ++i) extents[i] = extent_of(inputs[i * per_scale()].max);
        return workspace_bytes(parameters_, extents, narrowed(inputs[0].max.d[0]));
    }

    int32_t onShapeChange(const PluginTensorDesc* inputs, int32_t count, const PluginTensorDesc*,
                          int32_t) noexcept override {
        if (!takes(count) || !agree(inputs)) return kRefused;
        const char* wrong = fault(parameters_, call_of(inputs));
        if (wrong != nullptr) complain(wrong);
        return wrong == nullptr ? kDone : kRefused;
    }

    int32_t enqueue(const PluginTensorDesc* inputs, const PluginTensorDesc*, const void* const* values,
                    void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
        Call call = call_of(inputs);
        std::copy(values, values + parameters_.inputs(), call.inputs);
        call.map = static_cast<float*>(outputs[0]), call.score = static_cast<float*>(outputs[1]);
        call.workspace = workspace;
        return launch(parameters_, call, stream);
    }

    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }

    const PluginFieldCollection* getFieldsToSerialize() noexcept override { return fields_.collect(parameters_); }

  private:
    int per_scale() const { return parameters_.mode == Mode::kFeatures ? 2 : 1; }

    bool takes(int32_t inputs) const {
        if (inputs != parameters_.inputs()) complain("levels and mode do not fit the number of inputs");
        return inputs == parameters_.inputs();
    }

    bool has_rank(const Dims& dims) const {
        const bool fits = dims.nbDims == (parameters_.mode == Mode::kFeatures ? 4 : 3);
        if (!fits) complain("expected features (N, C, h, w) or distances (N, h, w)");
        return fits;
    }

    // One batch for all, and a student of its teacher's size.
    bool agree(const PluginTensorDesc* inputs) const {
        for (int32_t i = 0; i < parameters_.tensors(); ++i) {
            const Dims &dims = inputs[i].dims, &teacher = inputs[i - i % per_scale()].dims;
            if (!has_rank(dims)) return false;
            const bool same = std::equal(dims.d + 1, dims.d + dims.nbDims, teacher.d + 1);
            if (!same || dims.d[0] != inputs[0].dims.d[0]) {
                complain("teacher and student, or the batches of two scales, differ in size");
                return false;
            }
        }
        return true;
    }

    Call call_of(const PluginTensorDesc* inputs) const {
        Call call = {};
        call.batch = narrowed(inputs[0].dims.d[0]);
        call.element = inputs[0].type == DataType::kHALF ? Element::kHalf : Element::kFloat;
        for (int i = 0; i < parameters_.scales; ++i) call.extents[i] = extent_of(inputs[i * per_scale()].dims);
        return call;
    }

    Parameters parameters_;
    FieldsOf fields_;
};

class Creator final : public IPluginCreatorV3One {
  public:
    IPluginV3* createPlugin(const char*, const PluginFieldCollection* fields, TensorRTPhase) noexcept override {
        Parameters parameters;
        return read_fields(fields, parameters) ? new (std::nothrow) Plugin(parameters) : nullptr;
    }

    const PluginFieldCollection* getFieldNames() noexcept override { return field_names(); }
    const char* getPluginName() const noexcept override { return kName; }
    const char* getPluginVersion() const noexcept override { return kVersion; }
    const char* getPluginNamespace() const noexcept override { return kNamespace; }
};

}  // namespace
}  // namespace cada

#define CADA_EXPORT extern "C" __attribute__((visibility("default")))

// TensorRT's registry asks for both symbols by name, and loads nothing where one is missing.
CADA_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static cada::Creator creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}

CADA_EXPORT void setLoggerFinder(void*) {}
