using System.Globalization;
using System.Reflection;

namespace SimpleR1.Inference;

/// <summary>
/// What an engine is doing and has done since it started. Sent between processes as JSON, by these names.
/// </summary>
public sealed record EngineStatistics
{
    private static readonly PropertyInfo[] Figures = typeof(EngineStatistics).GetProperties();

    /// <summary>Sequences that the engine runs.</summary>
    public int Running { get; init; }

    /// <summary>Sequences that wait to run.</summary>
    public int Waiting { get; init; }

    /// <summary>Blocks that sequences hold, of <see cref="Blocks"/>.</summary>
    public int BlocksInUse { get; init; }

    /// <summary>Blocks of the KV cache.</summary>
    public int Blocks { get; init; }

    /// <summary>Blocks that can be found by their tokens, in use or not.</summary>
    public int CachedBlocks { get; init; }

    /// <summary>Forward passes.</summary>
    public long Steps { get; init; }

    /// <summary>Tokens whose keys and values were computed, recomputation included.</summary>
    public long ComputedTokens { get; init; }

    /// <summary>Tokens that were drawn.</summary>
    public long SampledTokens { get; init; }

    /// <summary>Tokens of admitted sequences.</summary>
    public long PrefixQueriedTokens { get; init; }

    /// <summary>Tokens of admitted sequences that the prefix cache had.</summary>
    public long PrefixHitTokens { get; init; }

    /// <summary>Sequences that lost their blocks to others and were computed again.</summary>
    public long Preemptions { get; init; }

    /// <summary>
    /// Tokens computed again because their sequence was preempted; what the prefix cache still has is not counted.
    /// </summary>
    public long RecomputedTokens { get; init; }

    /// <summary>Sequences that finished or were aborted.</summary>
    public long FinishedSequences { get; init; }

    /// <summary>Version of the weights.</summary>
    public int WeightVersion { get; init; }

    /// <summary>Time spent in steps.</summary>
    public double StepSeconds { get; init; }

    /// <summary>The part of <see cref="StepSeconds"/> in which a GPU worked; 0 on a CPU.</summary>
    public double GpuSeconds { get; init; }

    /// <summary>
    /// Time the host waited for the GPU; if it is much less than a step's, the GPU waits for the host.
    /// </summary>
    public double WaitSeconds { get; init; }

    /// <summary>Time the host took to prepare and launch steps.</summary>
    public double LaunchSeconds { get; init; }

    /// <summary>
    /// Adds up several engines: every property, so that a new one can't be forgotten. Only the version is the newest.
    /// </summary>
    public static EngineStatistics Sum(IEnumerable<EngineStatistics> engines)
    {
        var all = engines.ToArray();
        var sum = new EngineStatistics { WeightVersion = all.Select(e => e.WeightVersion).Append(0).Max() };
        foreach (var figure in Figures.Where(f => f.Name != nameof(WeightVersion)))
            figure.SetValue(sum, Add(figure, all));

        return sum;
    }

    private static object Add(PropertyInfo figure, EngineStatistics[] engines)
    {
        var values = engines.Select(figure.GetValue);
        if (figure.PropertyType == typeof(double))
            return values.Sum(v => (double)v!);

        long sum = values.Sum(v => Convert.ToInt64(v, CultureInfo.InvariantCulture));
        return Convert.ChangeType(sum, figure.PropertyType, CultureInfo.InvariantCulture);
    }
}
