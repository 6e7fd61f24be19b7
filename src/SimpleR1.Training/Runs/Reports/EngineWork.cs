using SimpleR1.Inference;

namespace SimpleR1.Training.Runs.Reports;

/// <summary>What the engines of all workers did in a step, as far as it was done twice.</summary>
/// <param name="Preemptions">Sequences that lost their blocks of the KV cache to others.</param>
/// <param name="Recomputed">Tokens computed again for that.</param>
/// <param name="Computed">All tokens computed.</param>
internal sealed record EngineWork(long Preemptions, long Recomputed, long Computed)
{
    /// <summary>The work between two reports, of the processes that are in both.</summary>
    public static EngineWork Between(
        IReadOnlyDictionary<string, EngineStatistics> before,
        IReadOnlyDictionary<string, EngineStatistics> after
    )
    {
        var pairs = after
            .Where(p => before.ContainsKey(p.Key))
            .Select(p => (Before: before[p.Key], After: p.Value))
            .ToList();
        return new(
            pairs.Sum(p => p.After.Preemptions - p.Before.Preemptions),
            pairs.Sum(p => p.After.RecomputedTokens - p.Before.RecomputedTokens),
            pairs.Sum(p => p.After.ComputedTokens - p.Before.ComputedTokens)
        );
    }

    public IEnumerable<KeyValuePair<string, double>> Metrics =>
        [new("preemptions", Preemptions), new("recomputed_tokens", Computed == 0 ? 0 : (double)Recomputed / Computed)];
}
