#!/usr/bin/env bash
# A bundle that runs on a GPU machine without .NET: the program and the tests, self-contained, without libtorch's own libraries (the machine's PyTorch
# has them). See docs/gpu.md. Usage: build/gpu-bundle.sh [FOLDER], default .gpu
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.gpu}
rm -rf "$folder/pub"
dotnet publish tests/SimpleR1.Tests -c Release -r linux-x64 --self-contained -o "$folder/pub" -v quiet --nologo
rm -f "$folder"/pub/libtorch*.so "$folder"/pub/libc10*.so "$folder"/pub/libgomp* "$folder"/pub/libshm.so "$folder"/pub/libtorchbind*.so "$folder"/pub/libbackend*.so "$folder"/pub/libjitbackend*.so "$folder"/pub/libaoti*.so "$folder"/pub/libnnapi*.so
tar -cf - -C "$folder/pub" . | xz -T0 -2 > "$folder/bundle.tar.xz"
ls -l "$folder/bundle.tar.xz"
