# The target cada_normalize, after saying clearly what it lacks.

if(NOT TensorRT_INCLUDE_DIR OR NOT EXISTS "${TensorRT_INCLUDE_DIR}/NvInferRuntime.h")
  message(FATAL_ERROR
    "TensorRT's headers were not found (TensorRT_INCLUDE_DIR is '${TensorRT_INCLUDE_DIR}'). On a Jetson: "
    "sudo apt-get install libnvinfer-headers-dev. Elsewhere: take the include/ folder of "
    "github.com/NVIDIA/TensorRT at the tag of your version and set -DTensorRT_INCLUDE_DIR to it.")
endif()
if(TensorRT_FLAVOR STREQUAL "TensorRT" AND TensorRT_VERSION AND TensorRT_VERSION VERSION_LESS 10.3)
  message(FATAL_ERROR
    "TensorRT's headers are ${TensorRT_VERSION}, expected 10.3 or newer; update JetPack, or point "
    "-DTensorRT_INCLUDE_DIR at newer headers.")
endif()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR
    "nvcc was not found. On a Jetson: sudo apt-get install cuda-nvcc-12-6 cuda-cudart-dev-12-6 (JetPack 6). "
    "If it is installed, set CUDACXX=/usr/local/cuda/bin/nvcc.")
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES "86-real;89-real;90-real;120" CACHE STRING "GPUs to compile for; 87 Orin, 110 Thor")
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release unless told otherwise" FORCE)
endif()
enable_language(CUDA)

add_library(cada_normalize MODULE
  "${CADA_EDGE_PLUGIN_DIR}/plugin.cpp" "${CADA_EDGE_PLUGIN_DIR}/fields.cpp" "${CADA_EDGE_PLUGIN_DIR}/launch.cu")
target_include_directories(cada_normalize SYSTEM PRIVATE
  "${TensorRT_INCLUDE_DIR}" ${CADA_EDGE_CUDA_INCLUDE_DIR} ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_features(cada_normalize PRIVATE cxx_std_17)
# No contraction: the arithmetic is specified to the bit. No exceptions: none may leave the library.
target_compile_options(cada_normalize PRIVATE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-deprecated-declarations -fno-exceptions>
  $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>)
set_target_properties(cada_normalize PROPERTIES
  CXX_VISIBILITY_PRESET hidden
  CUDA_VISIBILITY_PRESET hidden
  CUDA_STANDARD 17
  CUDA_RUNTIME_LIBRARY Static
  LINKER_LANGUAGE CUDA
  POSITION_INDEPENDENT_CODE ON)
target_link_options(cada_normalize PRIVATE "LINKER:--exclude-libs,ALL" "LINKER:--no-undefined")

include(GNUInstallDirs)
install(TARGETS cada_normalize LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
