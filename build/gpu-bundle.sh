#!/usr/bin/env bash
# Makes a bundle that runs on a GPU machine without .NET: the program and the tests, self-contained (see docs/gpu.md).
#
# Usage: build/gpu-bundle.sh [FOLDER]      default: .gpu
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.gpu}
rm -rf "$folder/pub"
dotnet publish tests/SimpleR1.Tests -c Release -r linux-x64 --self-contained -o "$folder/pub" -v quiet --nologo \
  -p:GpuBundle=true -p:DebugType=none

# libtorch's own libraries: the machine's PyTorch has them.
for library in libtorch libc10 libgomp libshm libtorchbind libbackend libjitbackend libaoti libnnapi; do
  rm -f "$folder/pub/$library"*.so*
done

# The library that tests of tokenizers compare with: those tests need no GPU.
rm -f "$folder/pub/"libhf_tokenizers.so

# Documentation and debug symbols, those of packages too.
find "$folder/pub" \( -name '*.xml' -o -name '*.pdb' \) -delete

tar -cf - -C "$folder/pub" . | xz -T0 -6 >"$folder/bundle.tar.xz"
ls -l "$folder/bundle.tar.xz"
