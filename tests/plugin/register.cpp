// Loads a plugin library into a TensorRT runtime and asks the registry for CadaNormalize.
//
//   register RUNTIME.so PLUGIN.so LOAD GET
//
// LOAD and GET are the places of loadLibrary and getCreator in the registry's table of virtual
// functions, which TensorRT 11 changed. By number, so that no header of NVIDIA's is needed.
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>

namespace {

using Load = void* (*)(void*, const char*);
using Get = void* (*)(void*, const char*, const char*, const char*);

template <class Function> Function method(void* object, const char* place) {
    return reinterpret_cast<Function>((*static_cast<void***>(object))[std::atoi(place)]);
}

} // namespace

int main(int count, char** arguments) {
    if (count != 5) return std::fprintf(stderr, "usage: register RUNTIME.so PLUGIN.so LOAD GET\n"), 1;
    void* runtime = dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL);
    if (runtime == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 2;
    const auto registry_of = reinterpret_cast<void* (*)()>(dlsym(runtime, "getPluginRegistry"));
    if (registry_of == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 3;
    void* registry = registry_of();
    if (method<Load>(registry, arguments[3])(registry, arguments[2]) == nullptr)
        return std::fprintf(stderr, "not loaded\n"), 4;
    const auto get = method<Get>(registry, arguments[4]);
    const bool known = get(registry, "CadaNormalize", "2", "") != nullptr;
    const bool older = get(registry, "CadaNormalize", "1", "") != nullptr;
    std::printf("version 2: %d, version 1: %d\n", known, older);
    return known && !older ? 0 : 5;
}
