# Cross-builds for Jetsons on x86-64: Debian's g++-aarch64-linux-gnu, nvcc, and CUDA's static
# runtime for aarch64, whose folder CADA_EDGE_AARCH64_CUDART names. It comes with the toolkit's
# cross packages (targets/aarch64-linux/lib) or in the aarch64 wheel nvidia-cuda-runtime.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CUDA_HOST_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)

set(CADA_EDGE_AARCH64_CUDART "$ENV{CADA_EDGE_AARCH64_CUDART}" CACHE PATH "Folder with libcudart_static.a for aarch64")
set(ENV{CADA_EDGE_AARCH64_CUDART} "${CADA_EDGE_AARCH64_CUDART}") # for the projects CMake tries compilers with
if(NOT EXISTS "${CADA_EDGE_AARCH64_CUDART}/libcudart_static.a")
  message(FATAL_ERROR
    "CADA_EDGE_AARCH64_CUDART is '${CADA_EDGE_AARCH64_CUDART}', expected a folder with libcudart_static.a for "
    "aarch64: targets/aarch64-linux/lib of CUDA's cross packages, or nvidia/cu13/lib of the aarch64 wheel "
    "nvidia-cuda-runtime.")
endif()
# nvcc looks in targets/aarch64-linux, which a toolkit for x86-64 lacks; its headers fit both.
find_program(CADA_EDGE_NVCC nvcc PATHS /usr/local/cuda/bin NO_CMAKE_FIND_ROOT_PATH)
get_filename_component(_cada_nvcc "${CADA_EDGE_NVCC}" REALPATH)
get_filename_component(_cada_toolkit "${_cada_nvcc}/../.." ABSOLUTE)
if(NOT EXISTS "${_cada_toolkit}/include/cuda_runtime.h")
  set(_cada_toolkit /usr/local/cuda)
endif()
set(CMAKE_CUDA_FLAGS_INIT "-L${CADA_EDGE_AARCH64_CUDART} -I${_cada_toolkit}/include")
set(CADA_EDGE_CUDA_INCLUDE_DIR "${_cada_toolkit}/include" CACHE PATH "Folder of cuda_runtime_api.h")
