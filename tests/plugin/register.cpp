// Loads a plugin library into a TensorRT runtime and asks the registry for CadaNormalize.
#include <NvInferRuntime.h>

#include <cstdio>
#include <dlfcn.h>

int main(int, char** arguments) {
    void* runtime = dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL);
    if (runtime == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 2;
    const auto get = reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(dlsym(runtime, "getPluginRegistry"));
    if (get == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 3;
    nvinfer1::IPluginRegistry& registry = *get();
    if (registry.loadLibrary(arguments[2]) == nullptr) return std::fprintf(stderr, "not loaded\n"), 4;
    const bool known = registry.getCreator("CadaNormalize", "2", "") != nullptr;
    const bool older = registry.getCreator("CadaNormalize", "1", "") != nullptr;
    std::printf("version 2: %d, version 1: %d\n", known, older);
    return known && !older ? 0 : 5;
}
