using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>
/// The device that tests of GPU code run on: a real GPU where there is one, else, with SIMPLE_R1_EMULATE_GPU set, the
/// emulator of tests/KernelEmulator, compiled here by g++, on which the same C# and the same kernels run on the CPU.
/// Without both the tests are skipped, visibly.
/// </summary>
public static class Gpu
{
    private static readonly Lazy<string?> missing = new(Prepare);

    /// <summary>
    /// Whether tests are made smaller: on the emulator, and for sanitizers when SIMPLE_R1_SMALL_TESTS is set.
    /// </summary>
    public static bool Small =>
        CudaLibraries.Emulated || Environment.GetEnvironmentVariable("SIMPLE_R1_SMALL_TESTS") is { Length: > 0 };

    /// <summary>Of weights that are sent to workers on the device.</summary>
    public static ModelConfig TinyConfig =>
        TinyModels.Config(ModelFamily.Qwen3, 64) with
        {
            HiddenSize = 32,
            IntermediateSize = 48,
            HeadDimension = 16,
        };

    /// <summary>
    /// Random weights of <see cref="TinyConfig"/>, as a trainer has them: f32, in memory that workers can map.
    /// </summary>
    public static FlatWeights TinyWeights()
    {
        var weights = SharedWeightMemory.Allocate(new WeightLayout(TinyConfig));
        using var random = TinyModels.Random(TinyConfig);
        weights.Flat.copy_(random.Flat);
        return weights;
    }

    public static CudaDevice Require()
    {
        Assert.SkipWhen(missing.Value is not null, missing.Value ?? "");
        var device = CudaDevice.Open(0);
        device.Use();
        return device;
    }

    private static string? Prepare()
    {
        if (
            File.Exists("/dev/nvidia0")
            || Environment.GetEnvironmentVariable(CudaLibraries.EmulatorVariable) is { Length: > 0 }
        )
            return null;

        // In parallel with all other tests the emulator would take minutes of their cores.
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_EMULATE_GPU") is not { Length: > 0 })
            return "needs an NVIDIA GPU; to run it on the kernel emulator: SIMPLE_R1_EMULATE_GPU=1 "
                + "dotnet run -c Release --project tests/SimpleR1.Tests -- -trait Category=Gpu";
        string sources = Path.Combine(SharedData.RepositoryRoot, "tests", "KernelEmulator"),
            folder = Path.Combine(Path.GetTempPath(), $"simple-r1-emulator-{Environment.UserName}");
        uint version = EmulatorVersion(sources);
        string library = Path.Combine(folder, $"emulator-{version:x8}.so");
        if (!File.Exists(library))
        {
            Directory.CreateDirectory(folder);
            string mine = $"{library}.{Environment.ProcessId}";
            try
            {
                CompileEmulator(sources, version, mine);
            }
            catch (System.ComponentModel.Win32Exception)
            {
                return "needs an NVIDIA GPU, or g++ (apt-get install g++) to emulate one";
            }
            File.Move(mine, library, overwrite: true);
        }
        Environment.SetEnvironmentVariable(CudaLibraries.EmulatorVariable, library);
        return null;
    }

    /// <summary>
    /// A hash of the emulator's files and of their folder: it reads its headers from the folder it was compiled in, so
    /// that another clone needs its own.
    /// </summary>
    private static uint EmulatorVersion(string sources)
    {
        string[] files = [.. Directory.GetFiles(sources).Order(StringComparer.Ordinal)];
        uint version = 2166136261;
        foreach (byte b in files.SelectMany(File.ReadAllBytes).Concat(System.Text.Encoding.UTF8.GetBytes(sources)))
            version = (version ^ b) * 16777619;
        return version;
    }

    private static void CompileEmulator(string sources, uint version, string library)
    {
        string[] arguments =
        [
            "-std=c++20",
            "-O2",
            "-fPIC",
            "-shared",
            $"-DEMULATOR_VERSION={version & 0x7fffffff}",
            $"-DEMULATOR_FOLDER=\"{sources}\"",
            "-o",
            library,
            Path.Combine(sources, "Driver.cpp"),
            Path.Combine(sources, "Fibers.cpp"),
            Path.Combine(sources, "Nccl.cpp"),
        ];
        using var compiler = Process.Start(new ProcessStartInfo("g++", arguments) { RedirectStandardError = true })!;
        string log = compiler.StandardError.ReadToEnd();
        compiler.WaitForExit();
        if (compiler.ExitCode != 0)
            throw new InvalidOperationException("the kernel emulator doesn't compile:\n" + log);
    }

    /// <summary>Numbers on the device, rounded to a type; <paramref name="rounded"/> is what they are there.</summary>
    public static DeviceMemory Upload(CudaDevice gpu, float[] values, ScalarType type, out float[] rounded)
    {
        var memory = gpu.Allocate(values.Length * 4L, "a test");
        rounded = [.. values.Select(v => Round(v, type))];
        if (type == ScalarType.Float32)
            gpu.Write<float>(memory.Pointer, values);
        else if (type == ScalarType.Float16)
            gpu.Write<Half>(memory.Pointer, [.. values.Select(v => (Half)v)]);
        else
            gpu.Write<ushort>(
                memory.Pointer,
                [.. rounded.Select(v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16))]
            );
        return memory;
    }

    public static float[] Download(CudaDevice gpu, nint pointer, int count, ScalarType type) =>
        type switch
        {
            ScalarType.Float32 => gpu.Read<float>(pointer, count),
            ScalarType.Float16 => [.. gpu.Read<Half>(pointer, count).Select(h => (float)h)],
            _ => [.. gpu.Read<ushort>(pointer, count).Select(b => BitConverter.UInt32BitsToSingle((uint)b << 16))],
        };

    public static float Round(float value, ScalarType type)
    {
        if (type == ScalarType.Float32)
            return value;
        if (type == ScalarType.Float16)
            return (float)(Half)value;
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return BitConverter.UInt32BitsToSingle((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000);
    }

    public static float[] Normal(int count, int seed, double scale = 1)
    {
        var random = new Random(seed);
        return
        [
            .. Enumerable
                .Range(0, count)
                .Select(_ =>
                    (float)(
                        scale
                        * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble()))
                        * Math.Cos(2 * Math.PI * random.NextDouble())
                    )
                ),
        ];
    }

    /// <summary>‖found − expected‖ / ‖expected‖; not-a-number fails.</summary>
    public static void AssertClose(ReadOnlySpan<float> expected, ReadOnlySpan<float> found, double tolerance)
    {
        Assert.Equal(expected.Length, found.Length);
        double difference = 0,
            norm = 0;
        for (int i = 0; i < expected.Length; i++)
        {
            difference += ((double)found[i] - expected[i]) * ((double)found[i] - expected[i]);
            norm += (double)expected[i] * expected[i];
        }
        double relative = Math.Sqrt(difference / Math.Max(norm, 1e-30));
        Assert.True(relative <= tolerance, $"relative difference {relative:E2}, allowed {tolerance:E2}");
    }

    /// <summary>What a type's rounding allows.</summary>
    public static double Tolerance(ScalarType type) =>
        type switch
        {
            ScalarType.Float32 => 1e-5,
            ScalarType.Float16 => 2e-3,
            _ => 1e-2,
        };
}

/// <summary>GPU tests run one after another: a device is used by one thread at a time.</summary>
[CollectionDefinition("GPU")]
public sealed class GpuCollection;
