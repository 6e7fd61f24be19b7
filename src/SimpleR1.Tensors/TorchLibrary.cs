using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;
using TorchSharp;

namespace SimpleR1.Tensors;

/// <summary>
/// Which libtorch a process runs on. The CPU build comes with the program. For a GPU, the CUDA build of a PyTorch
/// installation on the machine is used, because its libraries are far too large to ship.
/// </summary>
public static class TorchLibrary
{
    private static readonly string[] CpuLibraries = ["libc10.so", "libtorch_cpu.so", "libtorch.so"];
    private static readonly string[] CudaLibraries =
    [
        "libc10.so",
        "libc10_cuda.so",
        "libtorch_cpu.so",
        "libtorch_cuda.so",
        "libtorch.so",
    ];

    /// <summary>
    /// Loads the CUDA build. A process that uses a GPU calls this before anything else loads the CPU build.
    /// </summary>
    /// <exception cref="DllNotFoundException">No CUDA build of libtorch was found; the message lists the places and
    /// what to do.</exception>
    public static void UseCuda()
    {
        string folder =
            FindCudaBuild()
            ?? throw new DllNotFoundException(
                "no CUDA build of libtorch was found. Install PyTorch 2.10 or newer (pip install torch), "
                    + "or set SIMPLE_R1_TORCH to the folder of libtorch_cuda.so. "
                    + $"Looked in: {string.Join(", ", Candidates())}"
            );

        // PyTorch keeps CUDA's own libraries in nvidia/*/lib next to itself, and its loader path does not always
        // reach them.
        string packages = Path.GetFullPath(Path.Combine(folder, "..", "..", "nvidia"));
        if (Directory.Exists(packages))
            foreach (
                string library in Directory
                    .EnumerateDirectories(packages)
                    .Select(d => Path.Combine(d, "lib"))
                    .Where(Directory.Exists)
                    .SelectMany(d => Directory.EnumerateFiles(d, "*.so*"))
            )
                NativeLibrary.TryLoad(library, out _);

        foreach (string name in CudaLibraries)
            NativeLibrary.Load(Path.Combine(folder, name));
        torch.InitializeDeviceType(DeviceType.CUDA);
    }

    /// <summary>
    /// The folder of libtorch_cuda.so: SIMPLE_R1_TORCH, else a PyTorch installation; null where there is none.
    /// </summary>
    public static string? FindCudaBuild() =>
        Candidates().FirstOrDefault(f => File.Exists(Path.Combine(f, "libtorch_cuda.so")));

    /// <summary>A line about what is loaded, for people.</summary>
    public static string Description()
    {
        _ = torch.get_num_threads(); // loads it
        string loaded =
            File.ReadLines("/proc/self/maps")
                .Where(line => line.Contains('/'))
                .Select(line => line[line.IndexOf('/')..])
                .FirstOrDefault(path => CpuLibraries.Contains(Path.GetFileName(path)))
            ?? "not loaded";
        string devices = torch.cuda.is_available() ? $"{torch.cuda.device_count()} CUDA devices" : "CPU";
        return $"{torch.__version__}, {devices}, {loaded}; CUDA build on this machine: {FindCudaBuild() ?? "none"}";
    }

    private static IEnumerable<string> Candidates()
    {
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_TORCH") is { Length: > 0 } folder)
        {
            yield return folder;
            yield return Path.Combine(folder, "lib");
            yield break;
        }

        string home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        string[] roots =
        [
            Environment.GetEnvironmentVariable("VIRTUAL_ENV") ?? "",
            Environment.GetEnvironmentVariable("CONDA_PREFIX") ?? "",
            Path.Combine(home, ".local"),
            "/usr/local",
            "/usr",
            "/opt/conda",
        ];
        foreach (
            string lib in roots.Where(r => r.Length > 0).Select(r => Path.Combine(r, "lib")).Where(Directory.Exists)
        )
        foreach (string python in Directory.EnumerateDirectories(lib, "python3*"))
        foreach (string packages in new[] { "site-packages", "dist-packages" })
            if (Directory.Exists(Path.Combine(python, packages, "torch", "lib")))
                yield return Path.Combine(python, packages, "torch", "lib");
        if (AskPython() is { } installed)
            yield return installed;
    }

    /// <summary>
    /// The folder of the torch package of the python3 on the path, found without importing it; null where there is
    /// none.
    /// </summary>
    private static string? AskPython()
    {
        try
        {
            using var python = Process.Start(
                new ProcessStartInfo(
                    "python3",
                    ["-c", "import importlib.util as u; print(u.find_spec('torch').origin)"]
                )
                {
                    RedirectStandardOutput = true,
                    RedirectStandardError = true,
                }
            );
            string? origin = python?.StandardOutput.ReadLine();
            return python is not null && python.WaitForExit(10_000) && python.ExitCode == 0 && origin is not null
                ? Path.Combine(Path.GetDirectoryName(origin)!, "lib")
                : null;
        }
        catch (Win32Exception)
        {
            return null; // no python3
        }
    }
}
