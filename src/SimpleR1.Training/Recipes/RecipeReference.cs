using System.Text;

namespace SimpleR1.Training.Recipes;

/// <summary>The recipe reference, generated from the records so that it can't be out of date.</summary>
public static class RecipeReference
{
    private const string Beginning = """
        # Recipes

        Generated from the code by `simple-r1 recipe-reference`; a test checks that it is up to date.

        A recipe is one YAML file with a strict schema. Unknown keys, wrong types, values out of range and impossible
        combinations are all reported together, with file and line, before anything is loaded. Any value can be overridden on
        the command line: `--set optimizer.learning_rate=1e-6`, `--set rewards.0.weight=2`, `--set 'rollout.stop=["</answer>"]'`.
        The value of a key that takes text is that text as it stands (`--set 'model.template=Q: {question}'`); in quotes it has
        YAML's escapes. `<<: *anchor` takes over the keys of another section. Paths are relative to the working directory. The
        run folder holds the resolved recipe, every default included.

        `extends: base.yaml` makes a recipe of the changes of another one, which may itself extend a third. The path is relative
        to the file that names it. Sections are merged key by key. Other values and lists replace those of the base; where one of
        the two has a list in place of a section, the list or section of the extending recipe is the whole of it. A key without a
        value (`path:`) takes back what the base gave. Mistakes are reported with the file and line of the value. `--set` comes
        last. The resolved recipe does not need the base any more.

        Editors check and complete recipes that begin with
        `# yaml-language-server: $schema=` and the path of [recipe.schema.json](../recipes/recipe.schema.json).

        """;

    /// <summary>The text of <c>docs/recipes.md</c>.</summary>
    public static string Markdown()
    {
        var text = new StringBuilder(Beginning);
        Recipe(text, "`train`: reinforcement learning", typeof(TrainRecipe));
        Recipe(text, "`sft`: supervised training on text", typeof(SftRecipe));
        return text.ToString();
    }

    /// <summary>Writes <see cref="Markdown"/> to a file.</summary>
    public static void Write(string path) => File.WriteAllText(path, Markdown());

    private static void Recipe(StringBuilder text, string title, Type type)
    {
        text.Append($"\n## {title}\n");
        Section(text, type, "", []);
    }

    private static void Section(StringBuilder text, Type type, string at, HashSet<Type> done)
    {
        var keys = RecipeKey.Of(type);
        text.Append(at == "" ? "\n" : $"\n### `{at}`\n\n");
        if (!done.Add(type))
        {
            text.Append("The same keys as above.\n");
            return;
        }
        text.Append("| key | value | default | |\n|---|---|---|---|\n");
        object defaults = RecipeBinder.Empty(type);
        foreach (var key in keys)
            text.Append(
                $"| `{key.Name}` | {Cell(ValueText(key))} | {Cell(DefaultText(key, defaults))} | {Cell(key.Description)} |\n"
            );
        foreach (var key in keys)
        {
            string below = at == "" ? key.Name : $"{at}.{key.Name}";
            if (RecipeKey.IsSection(key.Type))
                Section(text, key.Type, below, done);
            else if (RecipeKey.Element(key.Type) is { } element && RecipeKey.IsSection(element))
                Section(text, element, below + ".N", done);
        }
    }

    private static string ValueText(RecipeKey key) =>
        TypeText(key.Type) + (key.Limits is null ? "" : ", " + key.Limits);

    private static string TypeText(Type type)
    {
        if (RecipeKey.IsSection(type))
            return "section" + (RecipeKey.BareList(type) is { } only ? $", or a list: its `{only.Name}`" : "");
        if (RecipeNames.IsChoice(type))
            return string.Join(", ", RecipeNames.Values(type).Select(v => $"`{v}`"));
        bool isList = RecipeKey.Element(type) is { } element && RecipeKey.IsSection(element);
        if (RecipeKey.BareName(type) is { } name)
            return $"list of sections, or of texts: their `{name.Name}`";
        return isList ? "list of sections" : RecipeBinder.Expected(type);
    }

    private static string DefaultText(RecipeKey key, object defaults)
    {
        if (key.Required)
            return "**required**";
        object? value = key.Property.GetValue(defaults);
        if (value is null)
            return "none";
        if (RecipeKey.IsSection(key.Type))
            return "its defaults";
        return value is System.Collections.IEnumerable list and not string
            ? $"`[{string.Join(", ", list.Cast<object>().Select(RecipeWriter.Scalar))}]`"
            : $"`{RecipeWriter.Scalar(value)}`";
    }

    private static string Cell(string text) => text.Replace("|", "\\|").Replace("\n", " ").Replace("<", "&lt;");
}
