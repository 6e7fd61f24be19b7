using System.Globalization;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data;

/// <summary>Several sources in one: their names, their shares, and the order that they are drawn in.</summary>
internal static class DataMix
{
    /// <summary>The sources with their names; one source is a mix of one.</summary>
    public static IReadOnlyList<(string Name, DataSource Source)> Named(DataSource source)
    {
        IReadOnlyList<DataSource> sources = source.Sources.Count > 0 ? source.Sources : [source];
        var named = new List<(string Name, DataSource Source)>();
        foreach (var one in sources)
        {
            string path = one.Path ?? "";
            string name = one.Name ?? one.Generator ?? Path.GetFileNameWithoutExtension(path.TrimEnd('/'));
            int same = named.Count(n => n.Name == name || n.Name.StartsWith(name + " #", StringComparison.Ordinal));
            named.Add((same == 0 ? name : $"{name} #{same + 1}", one));
        }
        return named;
    }

    /// <summary>The names of the sources, where there are several: of held-out problems, the sets told apart.</summary>
    public static IReadOnlyList<string> Sets(DataSource source) =>
        source.Sources.Count > 1 ? [.. Named(source).Select(s => s.Name)] : [];

    /// <summary>
    /// The order in which items are drawn. With weights each source has its own order; without them all are shuffled
    /// together.
    /// </summary>
    /// <param name="sources">The source's name of each item; items of a source are next to each other.</param>
    /// <exception cref="InvalidDataException">A source with a weight has no item.</exception>
    public static DataOrder Order(DataSource source, IEnumerable<string> sources, ulong seed) =>
        new(Parts(source, [.. sources]), seed);

    /// <summary>"2 sources: gsm8k 7,473 (66.7% of draws), math 500 (33.3% of draws)"; null for one source.</summary>
    public static string? Describe(DataSource source, IEnumerable<string> sources)
    {
        if (source.Sources.Count == 0)
            return null;
        string[] all = [.. sources];
        double weights = source.Sources.Sum(s => s.Weight ?? 0);
        var shares = Named(source)
            .Select(s =>
            {
                int count = all.Count(name => name == s.Name);
                double share = s.Source.Weight is { } weight ? weight / weights : (double)count / all.Length;
                return string.Create(CultureInfo.InvariantCulture, $"{s.Name} {count:N0} ({100 * share:F1}% of draws)");
            });
        return $"{source.Sources.Count} sources: {string.Join(", ", shares)}";
    }

    private static DataPart[] Parts(DataSource source, string[] sources)
    {
        if (source.Sources.Count == 0 || source.Sources[0].Weight is null)
            return [new(sources.Length, 1)];
        var parts = new List<DataPart>();
        foreach (var (name, one) in Named(source))
        {
            int count = sources.Count(n => n == name);
            if (count == 0)
                throw new InvalidDataException($"no row of the source '{name}' is left to train on; remove the source");
            parts.Add(new(count, one.Weight ?? 1));
        }
        return [.. parts];
    }
}
