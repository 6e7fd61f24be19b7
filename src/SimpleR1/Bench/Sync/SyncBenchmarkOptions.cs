using SimpleR1.Cluster;

namespace SimpleR1.Bench.Sync;

/// <summary>What <see cref="SyncBenchmark"/> measures.</summary>
public sealed record SyncBenchmarkOptions
{
    /// <summary>One of <see cref="NamedShapes"/>.</summary>
    public required string Model { get; init; }

    /// <summary>Workers, devices, transport and everything else that a run would set.</summary>
    public required ClusterOptions Cluster { get; init; }
    public int Rounds { get; init; } = 5;

    /// <summary>Fraction of the elements that differ from update to update.</summary>
    public double Changed { get; init; } = 1;

    /// <summary>
    /// The trainer's weights are on its GPU in the workers' type, instead of in the CPU's memory in f32.
    /// </summary>
    public bool SourceOnGpu { get; init; }
}
