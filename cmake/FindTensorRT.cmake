#[=======================================================================[.rst:
FindTensorRT
------------

Finds NVIDIA TensorRT or TensorRT for RTX: on a Jetson or Debian system, in an unpacked tar
installation, or in Python wheels (which carry libraries but no headers).

Components: ``nvinfer`` (always searched for), ``nvinfer_plugin``, ``nvonnxparser``, ``headers``.

Hints: ``TensorRT_ROOT`` (variable or environment), an installation or a folder of wheels such as
``site-packages``; ``TensorRT_INCLUDE_DIR`` names the headers alone.

Result: ``TensorRT_FOUND``, ``TensorRT_VERSION``, ``TensorRT_FLAVOR`` (``TensorRT`` or ``RTX``),
``TensorRT_INCLUDE_DIRS``, ``TensorRT_LIBRARIES``, ``TensorRT_<component>_FOUND``, and the imported
targets ``TensorRT::nvinfer``, ``TensorRT::nvinfer_plugin``, ``TensorRT::nvonnxparser``.
#]=======================================================================]

set(_trt_hints ${TensorRT_ROOT} $ENV{TensorRT_ROOT})
set(_trt_prefixes ${_trt_hints} /usr/local/tensorrt /usr/src/tensorrt /opt/tensorrt /usr /usr/local)
if(TensorRT_NO_SYSTEM_PATHS) # for tests and cross builds: look where told and nowhere else
  set(_trt_prefixes ${_trt_hints})
endif()

set(_trt_arch "${CMAKE_LIBRARY_ARCHITECTURE}")
if(NOT _trt_arch)
  set(_trt_arch "${CMAKE_SYSTEM_PROCESSOR}-linux-gnu")
endif()
# Tar archives and NVIDIA's SDK folders use targets/<arch>-linux-gnu; Debian uses the multiarch folders.
set(_trt_include_suffixes include "include/${_trt_arch}" "targets/${_trt_arch}/include")
set(_trt_library_suffixes
    lib lib64 "lib/${_trt_arch}" "targets/${_trt_arch}/lib"
    # Python wheels: <site-packages>/tensorrt_libs, or the root is that folder itself
    tensorrt_libs tensorrt_rtx_libs tensorrt_lean_libs .)

# -- headers and their version ------------------------------------------------------------------
find_path(TensorRT_INCLUDE_DIR NAMES NvInferVersion.h
          PATHS ${_trt_prefixes} PATH_SUFFIXES ${_trt_include_suffixes} NO_DEFAULT_PATH)

# _trt_macro(<variable> <text> <names...>): the number behind the first of these macros that has one
function(_trt_macro variable text)
  foreach(name IN LISTS ARGN)
    if(text MATCHES "#define[ \t]+${name}[ \t]+([A-Z_]+)")
      set(name "${CMAKE_MATCH_1}") # newer headers: NV_TENSORRT_MAJOR is TRT_MAJOR_ENTERPRISE or TRT_MAJOR_RTX
    endif()
    if(text MATCHES "#define[ \t]+${name}[ \t]+([0-9]+)")
      set(${variable} "${CMAKE_MATCH_1}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${variable} "" PARENT_SCOPE)
endfunction()

unset(TensorRT_VERSION)
set(TensorRT_FLAVOR TensorRT)
if(TensorRT_INCLUDE_DIR AND EXISTS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h")
  file(READ "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" _trt_text)
  foreach(part MAJOR MINOR PATCH BUILD)
    _trt_macro(_trt_${part} "${_trt_text}" NV_TENSORRT_${part} TRT_${part}_ENTERPRISE TRT_${part}_RTX)
  endforeach()
  if(_trt_text MATCHES "#define[ \t]+TRT_MAJOR_RTX[ \t]")
    set(TensorRT_FLAVOR RTX)
  endif()
  if(NOT _trt_MAJOR STREQUAL "" AND NOT _trt_MINOR STREQUAL "")
    set(TensorRT_VERSION "${_trt_MAJOR}.${_trt_MINOR}")
    foreach(part PATCH BUILD)
      if(NOT _trt_${part} STREQUAL "")
        string(APPEND TensorRT_VERSION ".${_trt_${part}}")
      endif()
    endforeach()
  endif()
endif()

# -- libraries: found as files, because wheels ship libnvinfer.so.10 without the plain .so -------
set(_trt_file_names_nvinfer libnvinfer.so libnvinfer.so.11 libnvinfer.so.10
    libtensorrt_rtx.so libtensorrt_rtx.so.1 libnvinfer_lean.so.11 libnvinfer_lean.so.10)
set(_trt_file_names_nvinfer_plugin libnvinfer_plugin.so libnvinfer_plugin.so.11 libnvinfer_plugin.so.10)
set(_trt_file_names_nvonnxparser libnvonnxparser.so libnvonnxparser.so.11 libnvonnxparser.so.10
    libtensorrt_onnxparser_rtx.so libtensorrt_onnxparser_rtx.so.1)
foreach(_trt_part nvinfer nvinfer_plugin nvonnxparser)
  find_file(TensorRT_${_trt_part}_LIBRARY NAMES ${_trt_file_names_${_trt_part}}
            PATHS ${_trt_prefixes} PATH_SUFFIXES ${_trt_library_suffixes} NO_DEFAULT_PATH)
  set(TensorRT_${_trt_part}_FOUND FALSE)
  if(TensorRT_${_trt_part}_LIBRARY)
    set(TensorRT_${_trt_part}_FOUND TRUE)
  endif()
  mark_as_advanced(TensorRT_${_trt_part}_LIBRARY)
endforeach()
set(TensorRT_headers_FOUND FALSE)
if(TensorRT_INCLUDE_DIR)
  set(TensorRT_headers_FOUND TRUE)
endif()
if(TensorRT_nvinfer_LIBRARY MATCHES "tensorrt_rtx")
  set(TensorRT_FLAVOR RTX)
endif()

# Without headers, the name behind the link or the metadata of the wheel still tells the version.
if(NOT TensorRT_VERSION AND TensorRT_nvinfer_LIBRARY)
  get_filename_component(_trt_real "${TensorRT_nvinfer_LIBRARY}" REALPATH)
  get_filename_component(_trt_folder "${TensorRT_nvinfer_LIBRARY}" DIRECTORY)
  file(GLOB _trt_infos "${_trt_folder}/../tensorrt*.dist-info")
  foreach(_trt_name IN ITEMS "${_trt_real}" LISTS _trt_infos)
    if(NOT TensorRT_VERSION AND _trt_name MATCHES "(\\.so\\.|-)([0-9]+\\.[0-9]+(\\.[0-9]+)*)(\\.dist-info)?$")
      set(TensorRT_VERSION "${CMAKE_MATCH_2}")
    endif()
  endforeach()
endif()

list(JOIN _trt_prefixes ", " _trt_searched)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  TensorRT
  REQUIRED_VARS TensorRT_nvinfer_LIBRARY
  VERSION_VAR TensorRT_VERSION
  HANDLE_VERSION_RANGE
  HANDLE_COMPONENTS
  REASON_FAILURE_MESSAGE
    "searched: ${_trt_searched}. Set TensorRT_ROOT to the folder that holds lib/libnvinfer.so. Headers come with JetPack (libnvinfer-dev) or from the include/ folder of github.com/NVIDIA/TensorRT")

if(TensorRT_FOUND)
  set(TensorRT_LIBRARIES "${TensorRT_nvinfer_LIBRARY}")
  set(TensorRT_INCLUDE_DIRS "")
  if(TensorRT_INCLUDE_DIR)
    set(TensorRT_INCLUDE_DIRS "${TensorRT_INCLUDE_DIR}")
  endif()
  foreach(_trt_part nvinfer nvinfer_plugin nvonnxparser)
    if(TensorRT_${_trt_part}_FOUND AND NOT TARGET TensorRT::${_trt_part})
      add_library(TensorRT::${_trt_part} UNKNOWN IMPORTED)
      set_target_properties(TensorRT::${_trt_part} PROPERTIES
        IMPORTED_LOCATION "${TensorRT_${_trt_part}_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIRS}")
    endif()
  endforeach()
endif()
mark_as_advanced(TensorRT_INCLUDE_DIR)
