using SimpleR1.Models;

namespace SimpleR1.Inference;

/// <summary>Sizes of an engine. What they cost is memory for the KV cache and time per step.</summary>
public sealed record EngineOptions
{
    /// <summary>Tokens of a KV block, a multiple of 16 (the width of one vector of keys).</summary>
    public int BlockSize { get; init; } = 16;
    /// <summary>Memory for keys and values. It is taken from the system as it is used.</summary>
    public long KvCacheBytes { get; init; } = 1L << 30;
    /// <summary>Most tokens of one step; longer prompts are computed in chunks, between which other sequences go on decoding.</summary>
    public int MaxBatchedTokens { get; init; } = 2048;
    /// <summary>Most sequences of one step.</summary>
    public int MaxSequences { get; init; } = 64;
    /// <summary>Longest prompt and completion together; 0 is the model's own.</summary>
    public int MaxContext { get; init; }
    /// <summary>Keep the keys and values of full blocks findable by their tokens, so that equal beginnings are computed once.</summary>
    public bool PrefixCaching { get; init; } = true;

    /// <summary>The longest context with this model.</summary>
    public int ContextOf(ModelConfig config) => MaxContext == 0 ? config.MaxPositions : MaxContext;

    /// <summary>How many blocks <see cref="KvCacheBytes"/> holds.</summary>
    public int BlocksOf(ModelConfig config) => (int)Math.Min(int.MaxValue / BlockSize, KvCacheBytes / KvCache.BytesPerBlock(config, BlockSize));

    /// <exception cref="ArgumentException">Some options are out of range or don't fit the model; all are named.</exception>
    public void Check(ModelConfig config)
    {
        var problems = new List<string>();
        if (BlockSize <= 0 || BlockSize % 16 != 0) problems.Add($"BlockSize: expected a multiple of 16, found {BlockSize}");
        else if (BlocksOf(config) == 0) problems.Add($"KvCacheBytes: {KvCacheBytes} bytes hold no block of {KvCache.BytesPerBlock(config, BlockSize)} bytes; give more");
        if (MaxSequences < 1) problems.Add($"MaxSequences: expected at least 1, found {MaxSequences}");
        if (MaxBatchedTokens < MaxSequences) problems.Add($"MaxBatchedTokens: expected at least MaxSequences ({MaxSequences}), so that every sequence can decode in each step, found {MaxBatchedTokens}");
        if (MaxContext < 0 || MaxContext > config.MaxPositions) problems.Add($"MaxContext: expected 0 .. {config.MaxPositions} (the model's positions), found {MaxContext}");
        if (problems.Count > 0) throw new ArgumentException("engine options: " + string.Join("; ", problems));
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
    /// <summary>Time spent in them; counted by <see cref="EngineThread"/>.</summary>
    public double StepSeconds { get; init; }
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
}
