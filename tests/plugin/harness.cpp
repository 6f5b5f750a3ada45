// Leads one plugin object through the life TensorRT gives it, enqueue on host memory included.
//
// Reads a case from standard input and writes map and score to standard output, all as raw bytes:
//   int32 mode, scales, rows, columns, taps, top_k, half, batch, then per scale int32 C, h, w
//   float32 min_spread, cosine_floor, levels, window, then the node's inputs.
#include <NvInferRuntime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
extern "C" void setLoggerFinder(void*);

using namespace nvinfer1;

namespace {

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "harness: %s\n", what);
    std::exit(1);
}

template <typename T>
std::vector<T> read(size_t count) {
    std::vector<T> values(count);
    require(std::fread(values.data(), sizeof(T), count, stdin) == count, "the case is too short");
    return values;
}

struct Number final : IDimensionExpr, apiv::VDimensionExpr {
    explicit Number(int64_t v) : value(v) { mImpl = this; }
    bool isConstant() const noexcept override { return true; }
    int64_t getConstantValue() const noexcept override { return value; }
    int64_t value;
};

struct Numbers final : IExprBuilder, apiv::VExprBuilder {
    Numbers() { mImpl = this; }
    const IDimensionExpr* constant(int64_t value) noexcept override {
        made.emplace_back(new Number(value));
        return made.back().get();
    }
    std::vector<std::unique_ptr<Number>> made;
};

struct Case {
    std::vector<int32_t> head = read<int32_t>(8);
    int32_t mode = head[0], scales = head[1], rows = head[2], columns = head[3], half = head[6], batch = head[7];
    std::vector<int32_t> extents = read<int32_t>(3 * static_cast<size_t>(scales));
    std::vector<float> floats = read<float>(2), levels = read<float>(static_cast<size_t>(scales)),
                       window = read<float>(static_cast<size_t>(head[4]));
    std::vector<DynamicPluginTensorDesc> tensors;
    std::vector<std::vector<char>> values;

    void add(const Dims& dims, DataType type) {
        DynamicPluginTensorDesc tensor = {};
        tensor.desc = {dims, type, TensorFormat::kLINEAR, 1.0f};
        tensor.min = tensor.max = tensor.opt = dims;
        tensors.push_back(tensor);
        size_t bytes = type == DataType::kHALF ? 2 : 4;
        for (int32_t i = 0; i < dims.nbDims; ++i) bytes *= static_cast<size_t>(dims.d[i]);
        values.push_back(read<char>(bytes));
    }

    void read_inputs() {
        for (int32_t i = 0; i < scales; ++i) {
            const int32_t* e = &extents[3 * static_cast<size_t>(i)];
            for (int32_t side = 0; side < (mode == 0 ? 2 : 1); ++side) {
                if (mode == 0) add({4, {batch, e[0], e[1], e[2]}}, half ? DataType::kHALF : DataType::kFLOAT);
                if (mode == 1) add({3, {batch, e[1], e[2]}}, DataType::kFLOAT);
            }
        }
        add({1, {batch}}, DataType::kFLOAT), add({1, {batch}}, DataType::kFLOAT);
    }

    IPluginV3* create(IPluginCreatorV3One& creator) const {
        const char* name = mode == 0 ? "features" : "distances";
        const PluginField fields[] = {
            {"mode", name, PluginFieldType::kCHAR, static_cast<int32_t>(std::strlen(name))},
            {"levels", levels.data(), PluginFieldType::kFLOAT32, scales},
            {"map_size", &head[2], PluginFieldType::kINT32, 2},
            {"window", window.data(), PluginFieldType::kFLOAT32, head[4]},
            {"top_k", &head[5], PluginFieldType::kINT32, 1},
            {"min_spread", &floats[0], PluginFieldType::kFLOAT32, 1},
            {"cosine_floor", &floats[1], PluginFieldType::kFLOAT32, 1},
        };
        const PluginFieldCollection collection = {7, fields};
        return creator.createPlugin("node", &collection, TensorRTPhase::kBUILD);
    }
};

template <typename T>
T& capability(IPluginV3& plugin, PluginCapabilityType type) {
    return static_cast<T&>(*plugin.getCapabilityInterface(type));
}

std::vector<DynamicPluginTensorDesc> with_outputs(const Case& c) {
    std::vector<DynamicPluginTensorDesc> all = c.tensors;
    for (int i = 0; i < 2; ++i) all.push_back(all.back());
    return all;
}

void check_build(const Case& c, IPluginV3& plugin) {
    auto& build = capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
    auto all = with_outputs(c);
    const auto inputs = static_cast<int32_t>(c.tensors.size());
    for (int32_t i = 0; i < inputs + 2; ++i) {
        require(build.supportsFormatCombination(i, all.data(), inputs, 2), "an offered format was refused");
        const auto kept = all[static_cast<size_t>(i)].desc;
        all[static_cast<size_t>(i)].desc.format = TensorFormat::kCHW2;
        require(!build.supportsFormatCombination(i, all.data(), inputs, 2), "a packed layout was taken");
        all[static_cast<size_t>(i)].desc = kept;
        all[static_cast<size_t>(i)].desc.type = DataType::kINT8;
        require(!build.supportsFormatCombination(i, all.data(), inputs, 2), "int8 was taken");
        all[static_cast<size_t>(i)].desc = kept;
    }
    Number batch(c.batch);
    std::vector<DimsExprs> shapes(c.tensors.size(), DimsExprs{1, {&batch}});
    DimsExprs outputs[2] = {};
    Numbers numbers;
    require(build.getOutputShapes(shapes.data(), inputs, nullptr, 0, outputs, 2, numbers) == 0, "no shapes");
    require(outputs[0].nbDims == 3 && outputs[0].d[0] == &batch && outputs[0].d[1]->getConstantValue() == c.rows &&
                outputs[0].d[2]->getConstantValue() == c.columns && outputs[1].nbDims == 1 && outputs[1].d[0] == &batch,
            "wrong output shapes");
    require(build.getOutputShapes(shapes.data(), inputs - 1, nullptr, 0, outputs, 2, numbers) != 0, "an input too few");
    DataType types[2] = {DataType::kINT8, DataType::kINT8};
    require(build.getNbOutputs() == 2 && build.getOutputDataTypes(types, 2, nullptr, 0) == 0, "no types");
    require(types[0] == DataType::kFLOAT && types[1] == DataType::kFLOAT, "outputs are float32");
    require(build.configurePlugin(all.data(), inputs, all.data() + inputs, 2) == 0, "configuration was refused");
}

// What an engine keeps of a plugin gives an equal one back.
IPluginV3* revived(IPluginCreatorV3One& creator, IPluginV3& plugin) {
    auto& runtime = capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
    return creator.createPlugin("node", runtime.getFieldsToSerialize(), TensorRTPhase::kRUNTIME);
}

void run(const Case& c, IPluginV3& plugin, size_t workspace_bytes) {
    auto& runtime = capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
    std::vector<PluginTensorDesc> descriptions;
    std::vector<const void*> inputs;
    for (const auto& tensor : c.tensors) descriptions.push_back(tensor.desc);
    for (const auto& value : c.values) inputs.push_back(value.data());
    auto wrong = descriptions;
    wrong[0].dims.d[0] += 1;
    const auto count = static_cast<int32_t>(inputs.size());
    require(runtime.onShapeChange(wrong.data(), count, nullptr, 2) != 0 || count == 3, "two batch sizes were taken");
    require(runtime.onShapeChange(descriptions.data(), count, nullptr, 2) == 0, "the shapes were refused");
    const auto batch = static_cast<size_t>(c.batch);
    std::vector<float> map(batch * static_cast<size_t>(c.rows * c.columns)), score(batch);
    const std::unique_ptr<float[]> workspace(new float[workspace_bytes / sizeof(float)]);  // just as much as asked for
    void* outputs[2] = {map.data(), score.data()};
    for (int repeat = 0; repeat < 2; ++repeat) {  // the tickets must be fresh each time
        const int32_t status =
            runtime.enqueue(descriptions.data(), nullptr, inputs.data(), outputs, workspace.get(), nullptr);
        require(status == 0, "enqueue failed");
    }
    std::fwrite(map.data(), sizeof(float), map.size(), stdout);
    std::fwrite(score.data(), sizeof(float), score.size(), stdout);
}

}  // namespace

int main() {
    setLoggerFinder(nullptr);
    int32_t count = 0;
    auto& creator = static_cast<IPluginCreatorV3One&>(*getCreators(count)[0]);
    require(count == 1 && !std::strcmp(creator.getPluginName(), "CadaNormalize"), "no creator of that name");
    require(!std::strcmp(creator.getPluginVersion(), "2") && !*creator.getPluginNamespace(), "another version");
    require(creator.getFieldNames()->nbFields == 7, "seven fields");
    Case c;
    c.read_inputs();
    const std::unique_ptr<IPluginV3> first(c.create(creator));
    if (first == nullptr) return 3;
    check_build(c, *first);
    const std::unique_ptr<IPluginV3> copy(first->clone());
    const std::unique_ptr<IPluginV3> again(revived(creator, *copy));
    require(again != nullptr, "the serialised fields were refused");
    auto& runtime = capability<IPluginV3OneRuntime>(*again, PluginCapabilityType::kRUNTIME);
    const std::unique_ptr<IPluginV3> attached(runtime.attachToContext(nullptr));
    const auto all = with_outputs(c);
    const auto inputs = static_cast<int32_t>(c.tensors.size());
    auto& build = capability<IPluginV3OneBuild>(*first, PluginCapabilityType::kBUILD);
    run(c, *attached, build.getWorkspaceSize(all.data(), inputs, all.data() + inputs, 2));
    return 0;
}
