using SimpleR1.Models;

namespace SimpleR1.Inference;

/// <summary>Sizes of an engine. They cost memory for the KV cache, and time per step.</summary>
public sealed record EngineOptions
{
    /// <summary>Tokens of a KV block, a multiple of 16 (the width of one vector of keys).</summary>
    public int BlockSize { get; init; } = 16;

    /// <summary>
    /// Memory for keys and values. 0 is 1 GiB on a CPU (taken from the system as it is used), and on a GPU what
    /// <see cref="GpuMemoryUtilization"/> leaves.
    /// </summary>
    public long KvCacheBytes { get; init; }

    /// <summary>
    /// Share of a GPU's whole memory that may be in use after the engine has taken its own; other processes' use counts
    /// too.
    /// </summary>
    public double GpuMemoryUtilization { get; init; } = 0.9;

    /// <summary>
    /// Record decode steps as CUDA graphs. Without graphs the tokens are the same but slower; for debugging.
    /// </summary>
    public bool CudaGraphs { get; init; } = true;

    /// <summary>
    /// Most tokens of one step; longer prompts are computed in chunks, between which other sequences continue to
    /// decode.
    /// </summary>
    public int MaxBatchedTokens { get; init; } = 2048;

    /// <summary>Most sequences of one step.</summary>
    public int MaxSequences { get; init; } = 64;

    /// <summary>Longest prompt and completion together; 0 is the model's longest.</summary>
    public int MaxContext { get; init; }

    /// <summary>
    /// Keep the keys and values of full blocks findable by their tokens, so that equal beginnings are computed once.
    /// </summary>
    public bool PrefixCaching { get; init; } = true;

    /// <summary>
    /// The options of an engine on a GPU, where they differ from those on a CPU: the workers of a cluster may compute on
    /// both. Null where they are the same.
    /// </summary>
    public EngineOptions? OnGpu { get; init; }

    /// <summary>The options of an engine on a GPU or on a CPU.</summary>
    public EngineOptions For(bool gpu) => gpu && OnGpu is not null ? OnGpu : this;

    /// <summary>Sizes for a GPU: steps large enough to keep it busy.</summary>
    public static EngineOptions ForGpu => new() { MaxBatchedTokens = 16_384, MaxSequences = 1_024 };

    /// <summary>The longest context with this model.</summary>
    public int ContextOf(ModelConfig config) => MaxContext == 0 ? config.MaxPositions : MaxContext;

    /// <exception cref="ArgumentException">
    /// Some options are out of range or don't fit the model; all are named.
    /// </exception>
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
                $"MaxBatchedTokens: expected at least MaxSequences ({MaxSequences}), "
                    + $"so that every sequence can decode in each step, found {MaxBatchedTokens}"
            );
        if (MaxContext < 0 || MaxContext > config.MaxPositions)
            problems.Add(
                $"MaxContext: expected 0 .. {config.MaxPositions} (the model's positions), found {MaxContext}"
            );

        if (problems.Count > 0)
            throw new ArgumentException("engine options: " + string.Join("; ", problems));
    }
}
