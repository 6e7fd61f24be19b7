using System.Text;
using static System.FormattableString;

namespace SimpleR1.Training.Planning;

/// <summary>What a run would do and need, as lines of a name and a text.</summary>
internal sealed class PlanText
{
    private const int NameWidth = 16;
    private readonly StringBuilder text = new();

    public void Add(string name, string value) =>
        text.Append(name.PadRight(NameWidth))
            .Append(value.Replace("\n", "\n" + new string(' ', NameWidth)))
            .Append('\n');

    /// <summary>"1 step", "2,000 steps".</summary>
    public static string Count(long count, string noun) => Invariant($"{count:N0} {noun}{(count == 1 ? "" : "s")}");

    /// <summary>"1.2 GB", "350 MB".</summary>
    public static string Bytes(double bytes) =>
        bytes >= 1e9 ? Invariant($"{bytes / 1e9:F1} GB") : Invariant($"{Math.Ceiling(bytes / 1e6):N0} MB");

    /// <summary>"0.8 million", "7.62 billion".</summary>
    public static string Parameters(long count) =>
        count >= 1_000_000_000
            ? Invariant($"{count / 1e9:F2} billion parameters")
            : Invariant($"{count / 1e6:F1} million parameters");

    public override string ToString() => text.ToString();
}
