"""Compiles the kernels of src/SimpleR1.Tensors/Kernels with nvcc and launches them on PyTorch's tensors."""
import ctypes
import os
import subprocess
import sys
import tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
KERNELS = os.path.join(HERE, "../../src/SimpleR1.Tensors/Kernels")


class Kernels:
    """The functions of one file, compiled for this GPU with macros that specialise them."""

    def __init__(self, file, **macros):
        torch.zeros(1, device="cuda")  # makes PyTorch's context current
        self.driver = ctypes.CDLL("libcuda.so.1")
        folders = [folder for folder, _, _ in os.walk(KERNELS)]
        source = next(os.path.join(folder, file) for folder, _, files in os.walk(KERNELS) if file in files)
        self.cubin = tempfile.NamedTemporaryFile(suffix=".cubin")
        major, minor = torch.cuda.get_device_capability()
        arch = f"{major}{minor}" + ("a" if major == 9 else "")
        subprocess.run(
            ["nvcc", "-O3", "-std=c++17", "-cubin", f"-gencode=arch=compute_{arch},code=sm_{arch}"]
            + [f"-I{folder}" for folder in folders]
            + [f"-D{name}={value}" for name, value in macros.items()]
            + [source, "-o", self.cubin.name],
            check=True,
        )
        self.module = ctypes.c_void_p()
        self.check(self.driver.cuModuleLoad(ctypes.byref(self.module), self.cubin.name.encode()), file)

    def launch(self, function, grid, threads, *arguments, shared=0):
        """Tensors are passed as addresses, ints as int, floats as float; others must be ctypes values."""
        handle = ctypes.c_void_p()
        self.check(self.driver.cuModuleGetFunction(ctypes.byref(handle), self.module, function.encode()), function)
        if shared > 48 << 10:
            self.check(self.driver.cuFuncSetAttribute(handle, 8, shared), function)  # dynamic shared memory
        values = [self.value(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(
            *[ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in values]
        )
        x, y = grid if isinstance(grid, tuple) else (grid, 1)
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        result = self.driver.cuLaunchKernel(handle, x, y, 1, threads, 1, 1, shared, stream, pointers, None)
        self.check(result, function)

    @staticmethod
    def value(argument):
        if argument is None:
            return ctypes.c_void_p(0)
        if isinstance(argument, torch.Tensor):
            return ctypes.c_void_p(argument.data_ptr())
        if isinstance(argument, int):
            return ctypes.c_int(argument)
        if isinstance(argument, float):
            return ctypes.c_float(argument)
        return argument

    @staticmethod
    def check(result, what):
        if result != 0:
            sys.exit(f"{what}: CUDA error {result}")


def milliseconds(action, rounds=5, repeats=10):
    """The median of some rounds, after a warm-up."""
    for _ in range(3):
        action()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times = []
    for _ in range(rounds):
        begin.record()
        for _ in range(repeats):
            action()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / repeats)
    return sorted(times)[rounds // 2]


def difference(found, expected):
    """|found - expected| / |expected|"""
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()
