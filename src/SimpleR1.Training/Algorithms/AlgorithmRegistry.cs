using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Algorithms;

/// <summary>The algorithms that a recipe can name. A new one is a file and a line here.</summary>
public static class AlgorithmRegistry
{
    internal const string Description =
        "`grpo` (Shao et al. 2024), or `gspo` (Zheng et al. 2025: one ratio for a whole sequence; with loss_average sequence, "
        + "clip_low 3e-4 and clip_high 4e-4).";

    private static readonly Dictionary<string, Func<AlgorithmSection, Algorithm>> Known = new()
    {
        ["grpo"] = a => Grpo.Create(a.NormalizeByStd, a.ClipLow, a.ClipHigh, a.KlCoefficient, a.ImportanceCap),
        ["gspo"] = a => Gspo.Create(a.NormalizeByStd, a.ClipLow, a.ClipHigh, a.KlCoefficient, a.ImportanceCap),
    };

    /// <summary>Names that <see cref="Create"/> knows.</summary>
    public static IReadOnlyCollection<string> Names => Known.Keys;

    /// <exception cref="ArgumentException">No algorithm has the section's name.</exception>
    public static Algorithm Create(AlgorithmSection section) =>
        Known.TryGetValue(section.Name, out var create)
            ? create(section)
            : throw new ArgumentException(
                $"no algorithm is called '{section.Name}'; there are {string.Join(", ", Known.Keys)}"
            );
}
