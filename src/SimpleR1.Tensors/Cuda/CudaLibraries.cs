using System.Runtime.InteropServices;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// Where NVIDIA's libraries are found: the driver (libcuda) in the system, cuBLASLt and NVRTC in the system, beside a PyTorch installation
/// (its nvidia/*/lib packages) or where <c>SIMPLE_R1_CUDA</c> says; NCCL likewise, or where <c>SIMPLE_R1_NCCL</c> says. Neither a CUDA toolkit nor a header is needed.
/// </summary>
public static class CudaLibraries
{
    /// <summary>Environment variable that names a stand-in for all of them; see tests/KernelEmulator.</summary>
    public const string EmulatorVariable = "SIMPLE_R1_CUDA_EMULATOR";

    /// <summary>Environment variable that names NCCL's library, or its folder.</summary>
    public const string NcclVariable = "SIMPLE_R1_NCCL";
    internal const string Driver = "cuda",
        Nvrtc = "nvrtc",
        CublasLt = "cublasLt",
        Nccl = "nccl";

    private static readonly Dictionary<string, string[]> Names = new()
    {
        [Driver] = ["libcuda.so.1"],
        [Nvrtc] = ["libnvrtc.so.13", "libnvrtc.so.12"],
        [Nccl] = ["libnccl.so.2"],
        [CublasLt] = ["libcublasLt.so.13", "libcublasLt.so.12"],
    };

    private static readonly string? emulator = Environment.GetEnvironmentVariable(EmulatorVariable)
        is { Length: > 0 } path
        ? path
        : null;

    /// <summary>Device memory is host memory, and kernels run on the CPU: for tests on machines without a GPU.</summary>
    public static bool Emulated => emulator is not null;

    /// <summary>Whether a driver can be loaded: the first thing to ask on a machine that may have no GPU.</summary>
    public static bool DriverPresent => NativeLibrary.TryLoad(emulator ?? Names[Driver][0], out _);

    /// <summary>Files named like <paramref name="pattern"/> in the folders where NVIDIA's libraries may be.</summary>
    internal static IEnumerable<string> Find(string pattern) =>
        Folders().Where(Directory.Exists).SelectMany(folder => Directory.EnumerateFiles(folder, pattern));

    static CudaLibraries() =>
        NativeLibrary.SetDllImportResolver(
            typeof(CudaLibraries).Assembly,
            (name, _, _) => Names.ContainsKey(name) ? Load(name) : 0
        );

    /// <exception cref="DllNotFoundException">It is nowhere; says where it was looked for and how to get it.</exception>
    internal static nint Load(string name)
    {
        if (name == Nccl && Environment.GetEnvironmentVariable(NcclVariable) is { Length: > 0 } named)
            return NativeLibrary.TryLoad(
                Directory.Exists(named) ? Path.Combine(named, Names[Nccl][0]) : named,
                out nint there
            )
                ? there
                : throw new DllNotFoundException(
                    $"{NcclVariable} names {named}, where NCCL can't be loaded from. {Source(Nccl)}"
                );
        if (emulator is not null)
            return NativeLibrary.Load(emulator);
        foreach (string file in Names[name])
        {
            if (NativeLibrary.TryLoad(file, out nint loaded))
                return loaded;
            foreach (string path in Find(file))
                if (NativeLibrary.TryLoad(path, out loaded))
                    return loaded;
        }
        throw new DllNotFoundException(
            $"{string.Join(" or ", Names[name])} was not found. "
                + (
                    name == Driver
                        ? "It is part of NVIDIA's driver: install that, or run with --device cpu."
                        : Source(name)
                )
                + " Looked in the loader's path and in "
                + string.Join(", ", Folders())
        );
    }

    private static string Source(string name) =>
        $"It comes with PyTorch (pip install torch) or alone (pip install nvidia-{name switch { Nvrtc => "cuda-nvrtc", Nccl => "nccl-cu13", _ => "cublas" }}); or set {(name == Nccl ? NcclVariable : "SIMPLE_R1_CUDA")} to its folder.";

    private static IEnumerable<string> Folders()
    {
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_CUDA") is { Length: > 0 } set)
        {
            yield return set;
            yield return Path.Combine(set, "lib64");
        }
        if (
            TorchLibrary.FindCudaBuild() is { } torch
            && Path.GetFullPath(Path.Combine(torch, "..", "..", "nvidia")) is var packages
            && Directory.Exists(packages)
        )
            foreach (string package in Directory.EnumerateDirectories(packages))
                yield return Path.Combine(package, "lib");
        yield return "/usr/local/cuda/lib64";
        yield return "/usr/lib/x86_64-linux-gnu";
    }
}
