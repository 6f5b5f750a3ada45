#include "fields.h"

#include <cstdio>
#include <cstring>

namespace cada {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

constexpr const char* kModes[] = {"features", "distances"};

const PluginField* find(const PluginFieldCollection& fields, const char* name) {
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        const PluginField& field = fields.fields[i];
        if (field.name != nullptr && std::strcmp(field.name, name) == 0 && field.data != nullptr) return &field;
    }
    complain("the node lacks the attribute ", name);
    return nullptr;
}

// Number of values read, or 0 after a complaint.
int read_floats(const PluginFieldCollection& fields, const char* name, float* values, int most) {
    const PluginField* field = find(fields, name);
    if (field == nullptr) return 0;
    if (field->type != PluginFieldType::kFLOAT32 || field->length < 1 || field->length > most) {
        complain("not as many float32 numbers as this version takes: ", name);
        return 0;
    }
    std::memcpy(values, field->data, sizeof(float) * static_cast<size_t>(field->length));
    return field->length;
}

bool read_int32(const PluginFieldCollection& fields, const char* name, int32_t* values, int count) {
    const PluginField* field = find(fields, name);
    if (field == nullptr) return false;
    if (field->type != PluginFieldType::kINT32 || field->length != count) {
        complain("not as many int32 numbers as expected: ", name);
        return false;
    }
    std::memcpy(values, field->data, sizeof(int32_t) * static_cast<size_t>(count));
    return true;
}

bool read_mode(const PluginFieldCollection& fields, Mode& mode) {
    const PluginField* field = find(fields, "mode");
    if (field == nullptr) return false;
    for (int32_t i = 0; i < 2 && field->type == PluginFieldType::kCHAR; ++i) {
        const auto* text = static_cast<const char*>(field->data);
        const size_t length = std::strlen(kModes[i]), given = static_cast<size_t>(field->length);
        const bool ends = given == length || (given == length + 1 && text[length] == '\0');
        if (ends && std::memcmp(text, kModes[i], length) == 0) {
            mode = static_cast<Mode>(i);
            return true;
        }
    }
    complain("expected 'features' or 'distances': ", "mode");
    return false;
}

}  // namespace

void complain(const char* what, const char* name) { std::fprintf(stderr, "CadaNormalize: %s%s\n", what, name); }

bool read_fields(const PluginFieldCollection* fields, Parameters& p) {
    if (fields == nullptr || (fields->nbFields > 0 && fields->fields == nullptr)) {
        complain("no attributes were given");
        return false;
    }
    int32_t map_size[2] = {}, top_k = 0;
    p.scales = read_floats(*fields, "levels", p.levels, kMaxScales);
    p.taps = read_floats(*fields, "window", p.window, kMaxTaps);
    const bool complete = read_mode(*fields, p.mode) && p.scales > 0 && p.taps > 0 &&
                          read_int32(*fields, "map_size", map_size, 2) && read_int32(*fields, "top_k", &top_k, 1) &&
                          read_floats(*fields, "min_spread", &p.min_spread, 1) == 1 &&
                          read_floats(*fields, "cosine_floor", &p.cosine_floor, 1) == 1;
    if (!complete) return false;
    p.rows = map_size[0], p.columns = map_size[1], p.top_k = top_k;
    const char* wrong = fault(p);
    if (wrong != nullptr) complain(wrong);
    return wrong == nullptr;
}

const PluginFieldCollection* field_names() {
    static const PluginField fields[] = {
        {"mode", nullptr, PluginFieldType::kCHAR, 1},          {"levels", nullptr, PluginFieldType::kFLOAT32, 1},
        {"map_size", nullptr, PluginFieldType::kINT32, 2},     {"window", nullptr, PluginFieldType::kFLOAT32, 1},
        {"top_k", nullptr, PluginFieldType::kINT32, 1},        {"min_spread", nullptr, PluginFieldType::kFLOAT32, 1},
        {"cosine_floor", nullptr, PluginFieldType::kFLOAT32, 1},
    };
    static const PluginFieldCollection collection = {7, fields};
    return &collection;
}

const PluginFieldCollection* FieldsOf::collect(const Parameters& p) {
    const char* mode = kModes[static_cast<int32_t>(p.mode)];
    map_size_[0] = p.rows, map_size_[1] = p.columns;
    fields_[0] = {"mode", mode, PluginFieldType::kCHAR, static_cast<int32_t>(std::strlen(mode))};
    fields_[1] = {"levels", p.levels, PluginFieldType::kFLOAT32, p.scales};
    fields_[2] = {"map_size", map_size_, PluginFieldType::kINT32, 2};
    fields_[3] = {"window", p.window, PluginFieldType::kFLOAT32, p.taps};
    fields_[4] = {"top_k", &p.top_k, PluginFieldType::kINT32, 1};
    fields_[5] = {"min_spread", &p.min_spread, PluginFieldType::kFLOAT32, 1};
    fields_[6] = {"cosine_floor", &p.cosine_floor, PluginFieldType::kFLOAT32, 1};
    collection_ = {7, fields_};
    return &collection_;
}

}  // namespace cada
