using System.Collections.Concurrent;
using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using static SimpleR1.Tensors.Cuda.CudaDriver;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>An argument of a kernel: a number or an address.</summary>
public readonly record struct KernelArgument(ulong Bits)
{
    public static implicit operator KernelArgument(nint pointer) => new((ulong)pointer);

    public static implicit operator KernelArgument(int value) => new((uint)value);

    public static implicit operator KernelArgument(long value) => new((ulong)value);

    public static implicit operator KernelArgument(float value) => new(BitConverter.SingleToUInt32Bits(value));

    public static implicit operator KernelArgument(Tensor? tensor) =>
        new(tensor is null ? 0 : (ulong)Aten.DataPointer(tensor));

    public static implicit operator KernelArgument(DeviceMemory memory) => new((ulong)memory.Pointer);
}

/// <summary>A compiled CUDA function. The texts are in Kernels/*.cu.</summary>
public sealed unsafe class Kernel
{
    private readonly CudaDevice device;
    private readonly nint function;
    private readonly string name;
    private int sharedLimit = 48 << 10;

    internal Kernel(CudaDevice device, nint function, string name) =>
        (this.device, this.function, this.name) = (device, function, name);

    /// <summary>Launches the kernel behind what was launched before. All of them wait for the kernel before them by themselves (see Prelude.cuh), and may be started early.</summary>
    /// <param name="shared">Dynamic shared memory, in bytes.</param>
    public void Launch((int X, int Y) grid, int threads, int shared, params ReadOnlySpan<KernelArgument> arguments)
    {
        if (grid.X == 0 || grid.Y == 0)
            return;
        device.Use();
        AllowShared(shared);
        void** parameters = stackalloc void*[arguments.Length];
        fixed (KernelArgument* values = arguments)
        {
            for (int i = 0; i < arguments.Length; i++)
                parameters[i] = values + i;
            var early = new LaunchAttribute { Id = ProgrammaticSerialization, Value = 1 };
            var config = new LaunchConfig
            {
                GridX = (uint)grid.X,
                GridY = (uint)grid.Y,
                GridZ = 1,
                BlockX = (uint)threads,
                BlockY = 1,
                BlockZ = 1,
                SharedBytes = (uint)shared,
                Stream = device.Stream,
                Attributes = &early,
                AttributeCount = device.EarlyLaunch && device.Profile is null ? 1u : 0,
            };
            var (place, at) = ((nint)(&config), (nint)parameters);
            if (device.Profile is null)
                Launch(place, at);
            else
                LaunchProfiled(device.Profile, place, at);
        }
    }

    private void LaunchProfiled(KernelProfile profile, nint config, nint parameters) =>
        profile.Measure(name, () => Launch(config, parameters));

    private void Launch(nint config, nint parameters)
    {
        int result = cuLaunchKernelEx((LaunchConfig*)config, function, (void**)parameters, null);
        var c = (LaunchConfig*)config;
        if (result != 0)
            Check(
                result,
                $"launch of {name}, grid {c->GridX} × {c->GridY}, {c->BlockX} threads, {c->SharedBytes} bytes of shared memory("
            );
    }

    /// <summary>Blocks that one multiprocessor runs at a time.</summary>
    public int BlocksPerMultiprocessor(int threads, int shared)
    {
        device.Use();
        AllowShared(shared);
        Check(cuOccupancyMaxActiveBlocksPerMultiprocessor(out int blocks, function, threads, (nuint)shared));
        return Math.Max(1, blocks);
    }

    private void AllowShared(int shared)
    {
        if (shared <= sharedLimit)
            return;
        if (shared > device.SharedMemoryPerBlock)
            throw new NotSupportedException(
                $"kernel {name} needs {shared:N0} bytes of shared memory a block, {device.Name} has {device.SharedMemoryPerBlock:N0}"
            );
        Check(cuFuncSetAttribute(function, MaxDynamicSharedSize, shared));
        sharedLimit = shared;
    }
}

/// <summary>
/// Compiles kernels for a GPU and keeps them, in memory and on disk: a kernel is compiled once for (its text, its definitions, the GPU's architecture,
/// the compiler's version). The folder is <c>SIMPLE_R1_KERNEL_CACHE</c>, else ~/.cache/simple-r1/kernels; without a writable one, every start compiles.
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
        string architecture =
            $"--gpu-architecture=sm_{device.ComputeCapability}{(device.ComputeCapability == 90 ? "a" : "")}";
        string[] options =
        [
            architecture,
            "-std=c++17",
            "--extra-device-vectorization",
            .. definitions.Select(d => "-D" + d),
        ];
        string source = texts[file + ".cu"];
        var headers = texts.Where(t => t.Key.EndsWith(".cuh", StringComparison.Ordinal)).ToDictionary();
        string identity = string.Join(
            '\0',
            [
                Nvrtc.Version(),
                CudaLibraries.Emulated ? "emulated" : "",
                source,
                .. options,
                .. headers.OrderBy(h => h.Key, StringComparer.Ordinal).Select(h => h.Value),
            ]
        );
        string path = Path.Combine(
            CacheFolder(),
            $"{file}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(identity)))[..24]}.cubin"
        );
        try
        {
            if (File.Exists(path))
                return File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // compiled again below
        byte[] image = Nvrtc.Compile(file + ".cu", source, headers, options);
        try
        {
            Directory.CreateDirectory(CacheFolder());
            string mine = $"{path}.{Environment.ProcessId}.tmp"; // several processes may start at once
            File.WriteAllBytes(mine, image);
            File.Move(mine, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // a cache that can't be written costs time, nothing else
        return image;
    }

    internal static string CacheFolder() =>
        Environment.GetEnvironmentVariable("SIMPLE_R1_KERNEL_CACHE") is { Length: > 0 } set
            ? set
            : Path.Combine(
                Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } cache
                    ? cache
                    : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"),
                "simple-r1",
                "kernels"
            );

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
