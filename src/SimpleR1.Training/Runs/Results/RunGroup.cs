namespace SimpleR1.Training.Runs.Results;

/// <summary>Runs of one recipe, which differ in their seeds alone.</summary>
/// <param name="Runs">By their seeds.</param>
public sealed record RunGroup(string Name, IReadOnlyList<RecordedRun> Runs)
{
    /// <summary>Groups that differ in more keys than these are named by their runs.</summary>
    private const int MostKeysInName = 3;

    /// <summary>Every key of the recipe with its value, but name and seed.</summary>
    public IReadOnlyDictionary<string, string> Recipe => Runs[0].Recipe;

    /// <summary>Groups runs by their recipes, in the order of the runs.</summary>
    public static IReadOnlyList<RunGroup> Of(IReadOnlyList<RecordedRun> runs)
    {
        RunGroup[] groups =
        [
            .. runs.GroupBy(run => string.Join('\n', run.Recipe.Select(p => $"{p.Key}={p.Value}").Order()))
                .Select(g => new RunGroup("", [.. g.OrderBy(run => run.Seed)])),
        ];
        string[] byRuns = [.. groups.Select(NameOfRuns)];
        string[] keys = [.. DifferingKeys(groups)];
        bool namedByKeys =
            groups.Length > 1 && (keys.Length <= MostKeysInName || byRuns.Distinct().Count() < groups.Length);
        return [.. groups.Select((g, i) => g with { Name = namedByKeys ? NameOfKeys(g, keys) : byRuns[i] })];
    }

    /// <summary>The keys whose values are not the same in all groups.</summary>
    public static IEnumerable<string> DifferingKeys(IReadOnlyList<RunGroup> groups) =>
        groups
            .SelectMany(g => g.Recipe.Keys)
            .Distinct()
            .Where(key => groups.Select(g => g.Recipe.GetValueOrDefault(key)).Distinct().Count() > 1);

    private static string NameOfKeys(RunGroup group, string[] keys)
    {
        var names = KeyNames.Of(keys);
        return string.Join(", ", keys.Select(key => $"{names[key]}={Value(key)}"));

        string Value(string key) => group.Recipe.GetValueOrDefault(key, "-").Trim('"'); // YAML's quotes
    }

    /// <summary>What the names of the runs have in common, without the word "seed" at its end.</summary>
    private static string NameOfRuns(RunGroup group)
    {
        string first = group.Runs[0].Name;
        if (group.Runs.Count == 1)
            return first;
        int common = group.Runs.Min(run => run.Name.Zip(first).TakeWhile(c => c.First == c.Second).Count());
        string start = WithoutSeparators(first[..common]);
        if (start.EndsWith("seed", StringComparison.OrdinalIgnoreCase))
            start = WithoutSeparators(start[..^"seed".Length]);
        return start.Length > 0 ? start : first;
    }

    private static string WithoutSeparators(string name) => name.TrimEnd('-', '_', '.', '=', ' ');
}
