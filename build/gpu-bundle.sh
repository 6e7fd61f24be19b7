#!/usr/bin/env bash
# Makes a bundle that runs on a GPU machine without .NET: the program and the tests, self-contained (see docs/gpu.md).
#
# Usage: build/gpu-bundle.sh [FOLDER]      default: .gpu
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.gpu}
rm -rf "$folder/pub"
dotnet publish tests/SimpleR1.Tests -c Release -r linux-x64 --self-contained -o "$folder/pub" -v quiet --nologo \
  -p:DebugType=none -p:GenerateDocumentationFile=false
cd "$folder/pub"

# libtorch's own libraries: the machine's PyTorch has them.
rm -f libtorch*.so libc10*.so libgomp* libshm.so libtorchbind*.so libbackend*.so libjitbackend*.so libaoti*.so libnnapi*.so

# What nothing loads on a GPU machine: debug symbols, documentation, the debugger's half of the runtime.
find . -name '*.pdb' -delete
find . -name '*.xml' -delete
rm -f libmscordaccore.so libmscordbi.so createdump

cd - >/dev/null
tar -cf - -C "$folder/pub" . | xz -T0 -6 >"$folder/bundle.tar.xz"
ls -l "$folder/bundle.tar.xz"
