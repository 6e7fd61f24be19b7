using System.Text.Json.Serialization;

namespace SimpleR1.Bench;

/// <summary>One measured case.</summary>
/// <param name="Figures">By name; names end with the unit, such as <c>_seconds</c>.</param>
public sealed record BenchmarkResult(
    string Case,
    string Model,
    string Device,
    string Type,
    SortedDictionary<string, double> Figures
)
{
    /// <summary>What another program was made of: versions by name. Null for SimpleR1 itself.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public SortedDictionary<string, string>? Software { get; init; }
}
