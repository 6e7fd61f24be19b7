namespace SimpleR1.Training.Recipes.Yaml;

/// <summary>
/// <c>extends: base.yaml</c>: a recipe as the changes of another one, which may itself extend a third. Sections are merged
/// key by key; other values and lists replace those of the base. A key without a value takes back what the base gave.
/// </summary>
internal static class ExtendedRecipe
{
    public const string Key = "extends";

    public const string Description =
        "A recipe that this one changes, relative to this file. Sections are merged key by key, other values and lists "
        + "replace those of the base, and a key without a value takes back what the base gave.";

    /// <summary>A recipe's text, merged over what it extends. Every value keeps the file and line that it stands at.</summary>
    /// <param name="path">The recipe's file, as messages call it.</param>
    /// <param name="problems">Receives what is wrong with the recipe and the files that it extends.</param>
    /// <returns>Null, and a problem, when one of the files can't be read as a recipe.</returns>
    public static MapNode? Read(string text, string path, List<RecipeProblem> problems) => Read(text, [path], problems);

    /// <param name="chain">The recipe that was asked for, and each that the one before it extends, up to this one.</param>
    private static MapNode? Read(string text, IReadOnlyList<string> chain, List<RecipeProblem> problems)
    {
        string path = chain[^1];
        var root = RecipeReader.Read(text, mark => $"{path}:{mark.Line}", problems);
        if (root is not null and not MapNode)
            problems.Add(new(root.Origin, "", $"expected a recipe with keys such as 'name:', found {root.Kind}"));
        if (root is not MapNode map)
            return null;

        int place = map.Entries.FindIndex(entry => entry.Key == Key);
        if (place < 0)
            return map;
        var extends = map.Entries[place];
        map.Entries.RemoveAt(place);
        return ReadBase(extends, chain, problems) is { } under ? Merge(under, map) : null;
    }

    private static MapNode? ReadBase(MapNode.Entry extends, IReadOnlyList<string> chain, List<RecipeProblem> problems)
    {
        if (extends.Value is not ScalarNode { Text: { Length: > 0 } name })
        {
            problems.Add(new(extends.Origin, Key, $"expected the path of a recipe, found {extends.Value.Kind}"));
            return null;
        }

        string path = Path.Combine(Path.GetDirectoryName(chain[^1]) ?? "", name);
        string[] longer = [.. chain, path];
        if (chain.Any(file => Path.GetFullPath(file) == Path.GetFullPath(path)))
            problems.Add(new(extends.Origin, Key, $"a recipe can't extend itself: {string.Join(" → ", longer)}"));
        else if (!File.Exists(path))
            problems.Add(new(extends.Origin, Key, $"recipe not found: {Path.GetFullPath(path)}"));
        else
            return Read(File.ReadAllText(path), longer, problems);
        return null;
    }

    /// <summary>
    /// The keys of both in the base's order, then those that only the upper one has. Where one of the two has a list in
    /// place of a section, the upper one replaces the other as a whole.
    /// </summary>
    private static MapNode Merge(MapNode under, MapNode over)
    {
        var merged = new MapNode { Origin = over.Origin };
        foreach (var entry in under.Entries)
        {
            if (over.Entries.Find(e => e.Key == entry.Key) is not { } change)
                merged.Entries.Add(entry);
            else if (entry.Value is MapNode below && change.Value is MapNode above)
                merged.Entries.Add(change with { Value = Merge(below, above) });
            else if (change.Value is not ScalarNode { Text: null })
                merged.Entries.Add(change);
        }
        merged.Entries.AddRange(over.Entries.Where(e => under.Entries.All(known => known.Key != e.Key)));
        return merged;
    }
}
