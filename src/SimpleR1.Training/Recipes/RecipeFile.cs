using System.Text;

namespace SimpleR1.Training.Recipes;

/// <summary>One thing wrong with a recipe.</summary>
/// <param name="Origin">"file:line", or the override.</param>
/// <param name="Key">Path of the key, such as <c>optimizer.learning_rate</c>; may be empty.</param>
/// <param name="Message">What is wrong and what to do.</param>
public sealed record RecipeProblem(string Origin, string Key, string Message)
{
    public override string ToString() => Key == "" ? $"{Origin}: {Message}" : $"{Origin}: {Key}: {Message}";
}

/// <summary>Everything that is wrong with a recipe, at once.</summary>
public sealed class RecipeException(string path, IReadOnlyList<RecipeProblem> problems)
    : Exception(
        $"{path}: {problems.Count} problem{(problems.Count == 1 ? "" : "s")}\n"
            + string.Join("\n", problems.Select(p => "  " + p))
    )
{
    public IReadOnlyList<RecipeProblem> Problems => problems;
}

/// <summary>Reads and writes recipes: YAML with a strict schema, which is the C# records themselves.</summary>
public static class RecipeFile
{
    /// <summary>Reads a recipe, applies overrides such as <c>optimizer.learning_rate=1e-6</c> or <c>rewards.0.weight=2</c> in order, and checks all of it.</summary>
    /// <exception cref="RecipeException">Unknown or duplicate keys, wrong types, values out of range, missing keys and conflicts, all together.</exception>
    /// <exception cref="FileNotFoundException">The file is not there.</exception>
    public static T Load<T>(string path, IEnumerable<string>? overrides = null)
        where T : class
    {
        if (!File.Exists(path))
            throw new FileNotFoundException($"recipe not found: {Path.GetFullPath(path)}", path);
        return Parse<T>(File.ReadAllText(path), path, overrides);
    }

    /// <summary>Like <see cref="Load"/>, from text; <paramref name="path"/> is what errors call it.</summary>
    public static T Parse<T>(string text, string path, IEnumerable<string>? overrides = null)
        where T : class
    {
        var problems = new List<RecipeProblem>();
        var root = RecipeReader.Read(text, mark => $"{path}:{mark.Line}", problems);
        if (root is not null and not MapNode)
            problems.Add(new(root.Origin, "", $"expected a recipe with keys such as 'name:', found {root.Kind}"));
        if (root is not MapNode map)
            throw new RecipeException(path, problems);
        BareLists.Expand(map, typeof(T));
        foreach (string setting in overrides ?? [])
        {
            RecipeOverrides.Apply(map, setting, problems);
            BareLists.Expand(map, typeof(T)); // it may have set one, and the next may set something in it
        }
        var binder = new RecipeBinder(path, problems);
        var recipe = (T)binder.Bind(map, typeof(T));
        return problems.Count == 0 ? recipe : throw new RecipeException(path, problems);
    }

    /// <summary>A recipe as YAML that loads to an equal record: every key, defaults included.</summary>
    public static string Write(object recipe)
    {
        var text = new StringBuilder();
        RecipeWriter.Section(text, recipe, 0);
        return text.ToString();
    }
}

/// <summary>Lists in the place of sections (<see cref="BareListAttribute"/>), written out: all that comes later knows sections only.</summary>
internal static class BareLists
{
    /// <summary>Changes the entries in place; each keeps the line that it was written in.</summary>
    public static void Expand(MapNode map, Type type)
    {
        var keys = RecipeKey.Of(type);
        for (int i = 0; i < map.Entries.Count; i++)
        {
            var entry = map.Entries[i];
            if (keys.FirstOrDefault(k => k.Name == entry.Key) is not { } key || !RecipeKey.IsSection(key.Type))
                continue;
            if (entry.Value is MapNode below)
                Expand(below, key.Type);
            else if (entry.Value is ListNode list && RecipeKey.BareList(key.Type) is { } only)
                map.Entries[i] = entry with
                {
                    Value = new MapNode { Origin = list.Origin, Entries = { new(only.Name, list.Origin, list) } },
                };
        }
    }
}

/// <summary><c>--set key.path=value</c>: the value is a piece of YAML, so lists and sections can be given too.</summary>
internal static class RecipeOverrides
{
    public static void Apply(MapNode root, string setting, List<RecipeProblem> problems)
    {
        string origin = "--set " + setting;
        int equals = setting.IndexOf('=');
        string[] keys = equals > 0 ? setting[..equals].Trim().Split('.') : [];
        if (keys.Length == 0 || keys.Contains(""))
        {
            problems.Add(new(origin, "", "expected key.path=value, such as optimizer.learning_rate=1e-6"));
            return;
        }
        if (RecipeReader.Read(setting[(equals + 1)..], _ => origin, problems) is not { } value)
            return;
        // a value of nothing at all reads as an empty document
        if (value is MapNode { Entries.Count: 0 } && setting[(equals + 1)..].Trim() == "")
            value = new ScalarNode { Origin = origin, Text = null };
        RecipeNode node = root;
        for (int i = 0; i < keys.Length; i++)
        {
            var next = i == keys.Length - 1 ? value : new MapNode { Origin = origin };
            if (node is MapNode map)
                node = Set(map, keys[i], next, origin, replace: i == keys.Length - 1);
            else if (
                node is ListNode list
                && int.TryParse(keys[i], out int index)
                && index >= 0
                && index <= list.Items.Count
            )
            {
                if (index == list.Items.Count)
                    list.Items.Add(next);
                else if (i == keys.Length - 1 || list.Items[index] is ScalarNode { Text: null })
                    list.Items[index] = next;
                node = list.Items[index];
            }
            else
            {
                string where = string.Join('.', keys[..i]);
                problems.Add(
                    new(
                        origin,
                        where,
                        node is ListNode items
                            ? $"expected an index from 0 to {items.Items.Count} (which adds one), found '{keys[i]}'"
                            : $"has no keys below it: it is {node.Kind} ({node.Origin})"
                    )
                );
                return;
            }
        }
    }

    private static RecipeNode Set(MapNode map, string key, RecipeNode next, string origin, bool replace)
    {
        int at = map.Entries.FindIndex(e => e.Key == key);
        if (at >= 0 && !replace && map.Entries[at].Value is not ScalarNode { Text: null })
            return map.Entries[at].Value;
        var entry = new MapNode.Entry(key, origin, next);
        if (at >= 0)
            map.Entries[at] = entry;
        else
            map.Entries.Add(entry);
        return next;
    }
}
