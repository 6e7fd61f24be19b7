using System.Runtime.InteropServices;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>
/// Where NVIDIA's libraries are found. The driver (libcuda) is in the system; cuBLASLt and NVRTC are in the system,
/// next to a PyTorch installation (its nvidia/*/lib packages), or where <c>SIMPLE_R1_CUDA</c> says; NCCL likewise, or
/// where <c>SIMPLE_R1_NCCL</c> says. No CUDA toolkit and no header is needed.
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

    /// <summary>Device memory is host memory, and kernels run on the CPU, for tests without a GPU.</summary>
    public static bool Emulated => emulator is not null;

    /// <summary>Whether a driver can be loaded; check this first on a machine that may have no GPU.</summary>
    public static bool DriverPresent => NativeLibrary.TryLoad(emulator ?? Names[Driver][0], out _);

    /// <summary>Files named like <paramref name="pattern"/> in the folders where NVIDIA's libraries may be.</summary>
    internal static IEnumerable<string> Find(string pattern) =>
        Folders().Where(Directory.Exists).SelectMany(folder => Directory.EnumerateFiles(folder, pattern));

    static CudaLibraries() =>
        NativeLibrary.SetDllImportResolver(
            typeof(CudaLibraries).Assembly,
            (name, _, _) => Names.ContainsKey(name) ? Load(name) : 0
        );

    /// <exception cref="DllNotFoundException">The library was not found; the message lists the places and how to get
    /// it.</exception>
    internal static nint Load(string name)
    {
        if (name == Nccl && Environment.GetEnvironmentVariable(NcclVariable) is { Length: > 0 } path)
            return LoadNccl(path);
        if (emulator is not null)
            return NativeLibrary.Load(emulator);
        foreach (string file in Names[name])
        {
            if (NativeLibrary.TryLoad(file, out nint loaded))
                return loaded;
            foreach (string candidate in Find(file))
                if (NativeLibrary.TryLoad(candidate, out loaded))
                    return loaded;
        }
        string source =
            name == Driver ? "It is part of NVIDIA's driver: install that, or run with --device cpu." : Source(name);
        throw new DllNotFoundException(
            $"{string.Join(" or ", Names[name])} was not found. {source} "
                + $"Looked in the loader's path and in {string.Join(", ", Folders())}"
        );
    }

    /// <param name="path">The library or its folder.</param>
    private static nint LoadNccl(string path)
    {
        string file = Directory.Exists(path) ? Path.Combine(path, Names[Nccl][0]) : path;
        return NativeLibrary.TryLoad(file, out nint loaded)
            ? loaded
            : throw new DllNotFoundException($"{NcclVariable} names {path}, which has no NCCL to load. {Source(Nccl)}");
    }

    /// <summary>How to get a library.</summary>
    private static string Source(string name)
    {
        string package = name switch
        {
            Nvrtc => "cuda-nvrtc",
            Nccl => "nccl-cu13",
            _ => "cublas",
        };
        string variable = name == Nccl ? NcclVariable : "SIMPLE_R1_CUDA";
        return $"It comes with PyTorch (pip install torch) or alone (pip install nvidia-{package}); "
            + $"or set {variable} to its folder.";
    }

    private static IEnumerable<string> Folders()
    {
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_CUDA") is { Length: > 0 } folder)
        {
            yield return folder;
            yield return Path.Combine(folder, "lib64");
        }
        if (TorchLibrary.FindCudaBuild() is { } torch)
        {
            string packages = Path.GetFullPath(Path.Combine(torch, "..", "..", "nvidia"));
            if (Directory.Exists(packages))
                foreach (string package in Directory.EnumerateDirectories(packages))
                    yield return Path.Combine(package, "lib");
        }
        yield return "/usr/local/cuda/lib64";
        yield return "/usr/lib/x86_64-linux-gnu";
    }
}
