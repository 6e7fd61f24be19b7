namespace SimpleR1.Training.Recipes.Yaml;

/// <summary>
/// Writes short forms out, so that later stages know sections only: a list in place of a section
/// (<see cref="BareListAttribute"/>), and names in place of a list of sections (<see cref="BareNameAttribute"/>).
/// </summary>
internal static class ShortForms
{
    /// <summary>Changes the entries in place; each keeps the line that it was written on.</summary>
    public static void Expand(MapNode map, Type type)
    {
        var keys = RecipeKey.Of(type);
        for (int i = 0; i < map.Entries.Count; i++)
        {
            var entry = map.Entries[i];
            if (keys.FirstOrDefault(k => k.Name == entry.Key) is { } key)
                map.Entries[i] = entry with { Value = Expanded(entry.Value, key.Type) };
        }
    }

    private static RecipeNode Expanded(RecipeNode value, Type type)
    {
        if (RecipeKey.BareName(type) is { } name)
            return Named(value, name);
        if (!RecipeKey.IsSection(type))
            return value;
        if (value is ListNode list && RecipeKey.BareList(type) is { } only)
            return Section(only, list);
        if (value is MapNode below)
            Expand(below, type);
        return value;
    }

    /// <summary>A name → a list of one section; names in a list → sections.</summary>
    private static RecipeNode Named(RecipeNode value, RecipeKey name)
    {
        if (value is ScalarNode { Text: not null })
        {
            var one = new ListNode { Origin = value.Origin };
            one.Items.Add(Section(name, value));
            return one;
        }
        if (value is not ListNode list)
            return value;
        for (int i = 0; i < list.Items.Count; i++)
            if (list.Items[i] is ScalarNode { Text: not null } item)
                list.Items[i] = Section(name, item);
        return list;
    }

    private static MapNode Section(RecipeKey only, RecipeNode value) =>
        new() { Origin = value.Origin, Entries = { new(only.Name, value.Origin, value) } };
}
