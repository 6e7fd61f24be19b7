using System.Text;
using SimpleR1.Training.Recipes.Yaml;

namespace SimpleR1.Training.Recipes;

/// <summary>One problem of a recipe.</summary>
/// <param name="Origin">"file:line", or the override.</param>
/// <param name="Key">Path of the key, such as <c>optimizer.learning_rate</c>; may be empty.</param>
/// <param name="Message">What is wrong and what to do.</param>
public sealed record RecipeProblem(string Origin, string Key, string Message)
{
    public override string ToString() => Key == "" ? $"{Origin}: {Message}" : $"{Origin}: {Key}: {Message}";
}

/// <summary>All problems of a recipe at once.</summary>
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
    /// <summary>
    /// Reads a recipe with what it extends, applies overrides in order, such as <c>optimizer.learning_rate=1e-6</c> or
    /// <c>rewards.0.weight=2</c>, and checks all of it.
    /// </summary>
    /// <exception cref="RecipeException">
    /// Keys are unknown, duplicate or missing, values have a wrong type or are out of range, or exclude each other. All
    /// problems are reported together.
    /// </exception>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    public static T Load<T>(string path, IEnumerable<string>? overrides = null)
        where T : RecipeDocument => Read<T>(path, overrides).Require();

    /// <summary>Like <see cref="Load"/>, from text. Errors call it <paramref name="path"/>.</summary>
    public static T Parse<T>(string text, string path, IEnumerable<string>? overrides = null)
        where T : RecipeDocument => Read<T>(text, path, overrides).Require();

    /// <summary>Like <see cref="Load"/>, but keeps the problems for checks that find more.</summary>
    /// <exception cref="RecipeException">The file is no recipe at all.</exception>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    internal static CheckedRecipe<T> Read<T>(string path, IEnumerable<string>? overrides)
        where T : RecipeDocument =>
        File.Exists(path)
            ? Read<T>(File.ReadAllText(path), path, overrides)
            : throw new FileNotFoundException($"recipe not found: {Path.GetFullPath(path)}", path);

    private static CheckedRecipe<T> Read<T>(string text, string path, IEnumerable<string>? overrides)
        where T : RecipeDocument
    {
        var problems = new List<RecipeProblem>();
        var map = ExtendedRecipe.Read(text, path, problems) ?? throw new RecipeException(path, problems);
        ShortForms.Expand(map, typeof(T));
        foreach (string setting in overrides ?? [])
        {
            RecipeOverrides.Apply(map, typeof(T), setting, problems);
            ShortForms.Expand(map, typeof(T)); // the override may have set a list, and the next one a value in it
        }
        var binder = new RecipeBinder(path, problems);
        var recipe = (T)binder.Bind(map, typeof(T));
        recipe.Source = binder.Source;
        return new(recipe, problems);
    }

    /// <summary>A recipe as YAML that loads to an equal record: every key, defaults included.</summary>
    public static string Write(object recipe)
    {
        var text = new StringBuilder();
        RecipeWriter.Section(text, recipe, 0);
        return text.ToString();
    }
}

/// <summary>
/// <c>--set key.path=value</c>: the value of a key that takes text is that text, as it stands unless it is quoted. Other
/// values are a piece of YAML, so lists and sections can be given too.
/// </summary>
internal static class RecipeOverrides
{
    /// <param name="type">The type of the root's record.</param>
    public static void Apply(MapNode root, Type type, string setting, List<RecipeProblem> problems)
    {
        string origin = "--set " + setting;
        int equals = setting.IndexOf('=');
        string[] keys = equals > 0 ? setting[..equals].Trim().Split('.') : [];
        if (keys.Length == 0 || keys.Contains(""))
        {
            problems.Add(new(origin, "", "expected key.path=value, such as optimizer.learning_rate=1e-6"));
            return;
        }
        if (Value(setting[(equals + 1)..], TypeOf(type, keys), origin, problems) is not { } value)
            return;
        RecipeNode node = root;
        for (int i = 0; i < keys.Length; i++)
        {
            bool isLast = i == keys.Length - 1;
            RecipeNode next = isLast ? value : new MapNode { Origin = origin };
            if (Step(node, keys[i], next, isLast) is not { } below)
            {
                string message = node is ListNode list
                    ? $"expected an index from 0 to {list.Items.Count} (which adds one), found '{keys[i]}'"
                    : $"has no keys below it: it is {node.Kind} ({node.Origin})";
                problems.Add(new(origin, string.Join('.', keys[..i]), message));
                return;
            }
            node = below;
        }
    }

    private static RecipeNode? Value(string text, Type? type, string origin, List<RecipeProblem> problems)
    {
        string trimmed = text.Trim();
        if (trimmed == "")
            return new ScalarNode { Origin = origin, Text = null };

        // Text would else have to be quoted twice, for the shell and for YAML. Quoted, it has YAML's escapes.
        if (type == typeof(string) && !RecipeReader.IsNothing(trimmed))
        {
            bool mayBeQuoted = trimmed[0] is '"' or '\'';
            return mayBeQuoted && RecipeReader.Read(text, _ => origin, []) is ScalarNode quoted
                ? quoted
                : new ScalarNode { Origin = origin, Text = text };
        }
        return RecipeReader.Read(text, _ => origin, problems);
    }

    /// <summary>The type of the value at a path of keys and indices; null where the recipe has no such key.</summary>
    private static Type? TypeOf(Type root, string[] keys)
    {
        Type? type = root;
        foreach (string key in keys)
        {
            bool isIndex = int.TryParse(key, out _);
            if (type is null)
                return null;
            if (isIndex && RecipeKey.IsSection(type) && RecipeKey.BareList(type) is { } only)
                type = only.Type;
            type = isIndex ? RecipeKey.Element(type) : RecipeKey.Find(type, key)?.Type;
        }
        return type;
    }

    /// <summary>
    /// The node of a key or an index, set to <paramref name="next"/> if it is empty or the last; null when there can't
    /// be one.
    /// </summary>
    private static RecipeNode? Step(RecipeNode node, string key, RecipeNode next, bool isLast)
    {
        if (node is MapNode map)
            return Set(map, key, next, isLast);
        if (node is not ListNode list || !int.TryParse(key, out int index) || index < 0 || index > list.Items.Count)
            return null;
        if (index == list.Items.Count)
            list.Items.Add(next);
        else if (isLast || list.Items[index] is ScalarNode { Text: null })
            list.Items[index] = next;
        return list.Items[index];
    }

    private static RecipeNode Set(MapNode map, string key, RecipeNode next, bool replace)
    {
        int index = map.Entries.FindIndex(e => e.Key == key);
        if (index >= 0 && !replace && map.Entries[index].Value is not ScalarNode { Text: null })
            return map.Entries[index].Value;
        var entry = new MapNode.Entry(key, next.Origin, next);
        if (index >= 0)
            map.Entries[index] = entry;
        else
            map.Entries.Add(entry);
        return next;
    }
}
