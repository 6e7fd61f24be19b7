namespace SimpleR1.Benchmarks;

/// <summary>
/// How a phase went: what the server answered to the attackers, and how long good requests took in parallel.
/// </summary>
public sealed record AbusePhase
{
    public required string Name { get; init; }
    public required int Attacks { get; init; }

    /// <summary>How often each status came; 0 is a connection that the server ended without one.</summary>
    public required IReadOnlyDictionary<int, int> Answers { get; init; }

    /// <summary>Answers that this attack must not get.</summary>
    public required int Wrong { get; init; }

    /// <summary>Good requests during the attack.</summary>
    public required int Good { get; init; }

    /// <summary>Good requests that failed, before, during and after the attack.</summary>
    public required int GoodFailed { get; init; }

    /// <summary>How long good requests took just before and just after the attack.</summary>
    public required Latency Quiet { get; init; }

    /// <summary>How long good requests took during the attack.</summary>
    public required Latency During { get; init; }
}

/// <summary>In milliseconds.</summary>
public sealed record Latency(double Median, double P99)
{
    internal static Latency Of(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        double Quantile(double part) =>
            sorted.Length == 0 ? double.NaN : sorted[Math.Min(sorted.Length - 1, (int)(part * sorted.Length))];
        return new(Quantile(0.5), Quantile(0.99));
    }
}
