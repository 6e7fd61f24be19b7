using SimpleR1.Inference;

namespace SimpleR1.Bench;

/// <summary>What <see cref="EngineBenchmark"/> measures.</summary>
public sealed record EngineBenchmarkOptions
{
    /// <summary>Names of <see cref="EngineBenchmark.Cases"/>; all by default.</summary>
    public IReadOnlyList<string> Cases { get; init; } = EngineBenchmark.Cases;
    public int Repeats { get; init; } = 3;
    public EngineOptions Engine { get; init; } = EngineOptions.ForGpu;

    /// <summary>Scales the numbers of sequences and tokens down, for a quick look or a CPU.</summary>
    public double Scale { get; init; } = 1;

    internal int Scaled(int count) => Math.Max(1, (int)(count * Scale));
}
