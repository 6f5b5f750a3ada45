#!/usr/bin/env bash
# Fetches what tests/plugin/test_aarch64.py runs against: a cross compiler, an emulator, CUDA's static
# runtime for aarch64 and NVIDIA's lean TensorRT runtimes for aarch64 (about 150 MB).
#
#   tests/peers/aarch64_runtime.sh FOLDER
#   CADA_EDGE_AARCH64=FOLDER CADA_EDGE_TENSORRT_HEADERS=include-10:include-11 pytest tests/plugin/test_aarch64.py
set -euo pipefail
folder="${1:?usage: aarch64_runtime.sh FOLDER}"
mkdir -p "$folder"

if ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v qemu-aarch64-static >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "run as root: apt-get install g++-aarch64-linux-gnu qemu-user-static" >&2; exit 1; }
  apt-get update -qq
  apt-get install -qq -y --no-install-recommends g++-aarch64-linux-gnu qemu-user-static
fi

fetch() { # name version into
  [ -d "$folder/$3" ] && return
  wheels="$(mktemp -d)"
  platforms=()
  for glibc in 2_17 2_28 2_31 2_35 2_39; do platforms+=(--platform "manylinux_${glibc}_aarch64"); done
  python3 -m pip download --quiet --no-deps --only-binary=:all: "${platforms[@]}" -d "$wheels" "$1==$2"
  python3 -m zipfile -e "$wheels"/*.whl "$folder/$3"
  rm -rf "$wheels"
}
fetch nvidia-cuda-runtime 13.0.96 cuda
fetch tensorrt-lean-cu13-libs 10.16.1.11 lean-10
fetch tensorrt-lean-cu13-libs 11.4.0.106 lean-11
echo "CADA_EDGE_AARCH64=$folder"
