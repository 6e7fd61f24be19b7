using System.Runtime.InteropServices;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Training.Runs.Fingerprints;

/// <summary>The machine that a trainer runs on.</summary>
/// <param name="Processor">The CPU's name.</param>
/// <param name="Cores">Those that the process may use.</param>
/// <param name="MemoryBytes">What the process may use.</param>
/// <param name="Gpus">Names of the GPUs that the run computes on.</param>
/// <param name="System">The operating system, and the version of .NET.</param>
public sealed record Machine(string Processor, int Cores, long MemoryBytes, IReadOnlyList<string> Gpus, string System)
{
    private const string CpuInfo = "/proc/cpuinfo";
    private const string CpuName = "model name";

    /// <summary>This machine.</summary>
    /// <param name="devices">Those of a run: cpu, cuda, cuda:N.</param>
    public static Machine Current(IEnumerable<string> devices) =>
        new(
            ProcessorName(),
            Environment.ProcessorCount,
            GC.GetGCMemoryInfo().TotalAvailableMemoryBytes,
            [.. devices.Distinct().Select(CudaDevice.NameOf).OfType<string>()],
            $"{RuntimeInformation.OSDescription}, .NET {Environment.Version}"
        );

    /// <summary>"2 × NVIDIA H200, 16 cores (AMD EPYC 9334), 128 GB".</summary>
    public override string ToString()
    {
        var gpus = Gpus.CountBy(name => name).Select(g => g.Value == 1 ? g.Key : $"{g.Value} × {g.Key}");
        string memory = FormattableString.Invariant($"{MemoryBytes / 1e9:F0} GB");
        return string.Join(", ", [.. gpus, $"{Cores} cores ({Processor})", memory]);
    }

    private static string ProcessorName()
    {
        string? line = File.Exists(CpuInfo)
            ? File.ReadLines(CpuInfo).FirstOrDefault(l => l.StartsWith(CpuName, StringComparison.Ordinal))
            : null;
        return line?[(line.IndexOf(':') + 1)..].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
