using SimpleR1.Models;

namespace SimpleR1.Inference;

/// <summary>Sizes of an engine. What they cost is memory for the KV cache and time per step.</summary>
public sealed record EngineOptions
{
    /// <summary>Tokens of a KV block, a multiple of 16 (the width of one vector of keys).</summary>
    public int BlockSize { get; init; } = 16;

    /// <summary>Memory for keys and values; 0 is 1 GiB on a CPU (taken from the system as it is used), and on a GPU what <see cref="GpuMemoryUtilization"/> leaves.</summary>
    public long KvCacheBytes { get; init; }

    /// <summary>Share of a GPU's whole memory that may be in use after the engine has taken its own, what other processes use counted in.</summary>
    public double GpuMemoryUtilization { get; init; } = 0.9;

    /// <summary>Record decode steps as CUDA graphs. Without, the same tokens come, slower; for debugging.</summary>
    public bool CudaGraphs { get; init; } = true;

    /// <summary>Most tokens of one step; longer prompts are computed in chunks, between which other sequences go on decoding.</summary>
    public int MaxBatchedTokens { get; init; } = 2048;

    /// <summary>Most sequences of one step.</summary>
    public int MaxSequences { get; init; } = 64;

    /// <summary>Longest prompt and completion together; 0 is the model's own.</summary>
    public int MaxContext { get; init; }

    /// <summary>Keep the keys and values of full blocks findable by their tokens, so that equal beginnings are computed once.</summary>
    public bool PrefixCaching { get; init; } = true;

    /// <summary>Sizes for a GPU: steps large enough to keep it busy.</summary>
    public static EngineOptions ForGpu => new() { MaxBatchedTokens = 16_384, MaxSequences = 1_024 };

    /// <summary>The longest context with this model.</summary>
    public int ContextOf(ModelConfig config) => MaxContext == 0 ? config.MaxPositions : MaxContext;

    /// <exception cref="ArgumentException">Some options are out of range or don't fit the model; all are named.</exception>
    public void Check(ModelConfig config)
    {
        var problems = new List<string>();
        if (BlockSize <= 0 || BlockSize % 16 != 0)
            problems.Add($"BlockSize: expected a multiple of 16, found {BlockSize}");
        if (KvCacheBytes < 0)
            problems.Add($"KvCacheBytes: expected 0 (automatic) or more, found {KvCacheBytes}");
        if (GpuMemoryUtilization is not (> 0 and <= 1))
            problems.Add($"GpuMemoryUtilization: expected above 0, up to 1, found {GpuMemoryUtilization}");
        if (MaxSequences < 1)
            problems.Add($"MaxSequences: expected at least 1, found {MaxSequences}");
        if (MaxBatchedTokens < MaxSequences)
            problems.Add(
                $"MaxBatchedTokens: expected at least MaxSequences ({MaxSequences}), so that every sequence can decode in each step, found {MaxBatchedTokens}"
            );
        if (MaxContext < 0 || MaxContext > config.MaxPositions)
            problems.Add(
                $"MaxContext: expected 0 .. {config.MaxPositions} (the model's positions), found {MaxContext}"
            );
        if (problems.Count > 0)
            throw new ArgumentException("engine options: " + string.Join("; ", problems));
    }
}

/// <summary>What an engine is doing and has done since it started.</summary>
public sealed record EngineStatistics
{
    public int Running { get; init; }
    public int Waiting { get; init; }

    /// <summary>Blocks that sequences hold, of <see cref="Blocks"/>.</summary>
    public int BlocksInUse { get; init; }
    public int Blocks { get; init; }

    /// <summary>Blocks that can be found by their tokens, in use or not.</summary>
    public int CachedBlocks { get; init; }
    public long Steps { get; init; }

    /// <summary>Tokens whose keys and values were computed, recomputation included.</summary>
    public long ComputedTokens { get; init; }
    public long SampledTokens { get; init; }

    /// <summary>Tokens of admitted sequences, and how many of them the prefix cache had.</summary>
    public long PrefixQueriedTokens { get; init; }
    public long PrefixHitTokens { get; init; }

    /// <summary>Sequences that lost their blocks to others and were computed again.</summary>
    public long Preemptions { get; init; }
    public long FinishedSequences { get; init; }
    public int WeightVersion { get; init; }

    /// <summary>Time spent in steps; and, on a GPU, the part of it in which the GPU worked.</summary>
    public double StepSeconds { get; init; }
    public double GpuSeconds { get; init; }

    /// <summary>Time in which the host waited for the GPU; where it is much less than a step's, the GPU waits for the host.</summary>
    public double WaitSeconds { get; init; }

    /// <summary>Time in which the host prepared and launched steps.</summary>
    public double LaunchSeconds { get; init; }

    /// <summary>Of several engines together; the version is the newest.</summary>
    public static EngineStatistics Sum(IEnumerable<EngineStatistics> engines) =>
        engines.Aggregate(
            new EngineStatistics(),
            (a, b) =>
                new()
                {
                    Running = a.Running + b.Running,
                    Waiting = a.Waiting + b.Waiting,
                    BlocksInUse = a.BlocksInUse + b.BlocksInUse,
                    Blocks = a.Blocks + b.Blocks,
                    CachedBlocks = a.CachedBlocks + b.CachedBlocks,
                    Steps = a.Steps + b.Steps,
                    ComputedTokens = a.ComputedTokens + b.ComputedTokens,
                    SampledTokens = a.SampledTokens + b.SampledTokens,
                    PrefixQueriedTokens = a.PrefixQueriedTokens + b.PrefixQueriedTokens,
                    PrefixHitTokens = a.PrefixHitTokens + b.PrefixHitTokens,
                    Preemptions = a.Preemptions + b.Preemptions,
                    FinishedSequences = a.FinishedSequences + b.FinishedSequences,
                    WeightVersion = Math.Max(a.WeightVersion, b.WeightVersion),
                    StepSeconds = a.StepSeconds + b.StepSeconds,
                    GpuSeconds = a.GpuSeconds + b.GpuSeconds,
                    WaitSeconds = a.WaitSeconds + b.WaitSeconds,
                    LaunchSeconds = a.LaunchSeconds + b.LaunchSeconds,
                }
        );
}
