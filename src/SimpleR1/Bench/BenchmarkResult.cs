namespace SimpleR1.Bench;

/// <summary>One measured case.</summary>
/// <param name="Figures">By name; names end with the unit, such as <c>_seconds</c>.</param>
public sealed record BenchmarkResult(
    string Case,
    string Model,
    string Device,
    string Type,
    SortedDictionary<string, double> Figures
);
