using System.Collections.Concurrent;
using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using SimpleR1.Tensors.Cuda.Libraries;
using static SimpleR1.Tensors.Cuda.Libraries.CudaDriver;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// Compiles kernels for a GPU and keeps them, in memory and on disk: a kernel is compiled once for its text, its
/// definitions, the GPU's architecture and the compiler's version. The folder is <c>SIMPLE_R1_KERNEL_CACHE</c>, else
/// ~/.cache/simple-r1/kernels; without a writable folder, every start compiles.
/// </summary>
public sealed unsafe class KernelLibrary(CudaDevice device)
{
    private static readonly Dictionary<string, string> texts = ReadTexts();
    private readonly ConcurrentDictionary<string, nint> modules = [];
    private readonly ConcurrentDictionary<(nint, string), Kernel> kernels = [];

    /// <param name="file">Without extension: "RmsNorm".</param>
    /// <param name="function">A function of it.</param>
    /// <param name="definitions">The macros that specialise it, as <c>NAME=VALUE</c>.</param>
    /// <exception cref="CudaException">It doesn't compile.</exception>
    public Kernel Get(string file, string function, params ReadOnlySpan<string> definitions)
    {
        string key = file + ' ' + string.Join(' ', definitions!);
        string[] options = [.. definitions];
        nint module = modules.GetOrAdd(key, _ => Load(file, options));
        return kernels.GetOrAdd(
            (module, function),
            _ =>
            {
                nint handle;
                fixed (byte* name = Encoding.UTF8.GetBytes(function + "\0"))
                    Check(cuModuleGetFunction(out handle, module, name));
                return new(device, handle, function);
            }
        );
    }

    /// <summary>File and definitions of every kernel that was asked for.</summary>
    internal IEnumerable<(string File, string[] Definitions)> Loaded =>
        modules.Keys.Select(key => key.Split(' ')).Select(parts => (parts[0], parts[1..]));

    /// <summary>Machine code for an architecture, which need not be this device's: <c>sm_80</c>, <c>sm_90a</c>.</summary>
    /// <exception cref="CudaException">The kernel doesn't compile.</exception>
    internal static byte[] Compile(string file, string architecture, IEnumerable<string> definitions) =>
        Nvrtc.Compile(file + ".cu", texts[file + ".cu"], Headers(), Options(architecture, definitions));

    private static string[] Options(string architecture, IEnumerable<string> definitions) =>
        [
            $"--gpu-architecture={architecture}",
            "-std=c++17",
            "--extra-device-vectorization",
            .. definitions.Select(d => "-D" + d),
        ];

    private static Dictionary<string, string> Headers() =>
        texts.Where(t => t.Key.EndsWith(".cuh", StringComparison.Ordinal)).ToDictionary();

    private nint Load(string file, string[] definitions)
    {
        device.Use();
        byte[] image = CompileOrRead(file, definitions);
        fixed (byte* data = image)
        {
            Check(cuModuleLoadData(out nint module, data));
            return module;
        }
    }

    private byte[] CompileOrRead(string file, string[] definitions)
    {
        string architecture = $"sm_{device.ComputeCapability}{(device.ComputeCapability == 90 ? "a" : "")}";
        string path = CachePath(file, Options(architecture, definitions), Headers());
        try
        {
            if (File.Exists(path))
                return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // compiled below

        byte[] image = Compile(file, architecture, definitions);
        try
        {
            Directory.CreateDirectory(CacheFolder());
            string temporary = $"{path}.{Environment.ProcessId}.tmp"; // several processes may start at once
            File.WriteAllBytes(temporary, image);
            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // the next start compiles
        return image;
    }

    /// <summary>Where a compiled kernel is kept: its name has a hash of all that makes it.</summary>
    private static string CachePath(string file, string[] options, Dictionary<string, string> headers)
    {
        string identity = string.Join(
            '\0',
            [
                Nvrtc.Version(),
                CudaLibraries.Emulated ? "emulated" : "",
                texts[file + ".cu"],
                .. options,
                .. headers.OrderBy(h => h.Key, StringComparer.Ordinal).Select(h => h.Value),
            ]
        );
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(identity)))[..24];
        return Path.Combine(CacheFolder(), $"{file}-{hash}.cubin");
    }

    internal static string CacheFolder()
    {
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_KERNEL_CACHE") is { Length: > 0 } folder)
            return folder;
        string? caches = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        if (string.IsNullOrEmpty(caches))
            caches = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return Path.Combine(caches, "simple-r1", "kernels");
    }

    private static Dictionary<string, string> ReadTexts()
    {
        var assembly = Assembly.GetExecutingAssembly();
        var found = new Dictionary<string, string>();
        foreach (
            string resource in assembly
                .GetManifestResourceNames()
                .Where(n => n.StartsWith("Kernels/", StringComparison.Ordinal))
        )
        {
            using var reader = new StreamReader(assembly.GetManifestResourceStream(resource)!);
            found[resource["Kernels/".Length..]] = reader.ReadToEnd();
        }
        return found;
    }
}
