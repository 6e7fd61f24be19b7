using System.Globalization;
using SimpleR1.Models;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Recipes.Yaml;

namespace SimpleR1.Training.Recipes;

/// <summary>Nodes → records. Collects every problem, and remembers where each key was written.</summary>
internal sealed class RecipeBinder(string path, List<RecipeProblem> problems)
{
    private readonly Dictionary<string, string> origins = [];
    private int bindingProblems;

    /// <summary>Where each key was written.</summary>
    public RecipeSource Source => new(path, origins);

    /// <summary>Binds and validates. Keys with a problem have their defaults.</summary>
    public object Bind(MapNode root, Type type)
    {
        var bound = Section(root, type, "");
        bindingProblems = problems.Count;
        Validate(bound, "");
        return bound;
    }

    private object Section(MapNode map, Type type, string at)
    {
        object section = Empty(type);
        var keys = RecipeKey.Of(type);
        foreach (var entry in map.Entries)
        {
            string key = Join(at, entry.Key);
            origins[key] = entry.Origin;
            if (keys.FirstOrDefault(k => k.Name == entry.Key) is { } known)
                Bind(section, known, entry, key);
            else
                Problem(entry.Origin, key, UnknownKey(entry.Key, [.. keys.Select(k => k.Name)]));
        }
        foreach (var missing in keys.Where(k => k.Required && map.Entries.All(e => e.Key != k.Name)))
        {
            origins[Join(at, missing.Name)] = map.Origin;
            Problem(
                at == "" ? path : map.Origin,
                Join(at, missing.Name),
                $"missing; expected {Expected(missing.Type)}: {missing.Description}"
            );
        }
        return section;
    }

    private void Bind(object section, RecipeKey key, MapNode.Entry entry, string path)
    {
        if (entry.Value is ScalarNode { Text: null } || key.AcceptsAuto && entry.Value is ScalarNode { Text: "auto" })
        {
            if (key.Nullable)
                key.Property.SetValue(section, null);
            else if (key.Required || !RecipeKey.IsSection(key.Type)) // else: all below "section:" is commented out
                Problem(entry.Origin, path, $"expected {Expected(key.Type)}, found nothing");
        }
        else if (Value(entry.Value, key.Type, key.Limits, path) is { } value)
            key.Property.SetValue(section, value);
    }

    private static string UnknownKey(string name, string[] known)
    {
        string? nearest = RecipeNames.Nearest(name, known);
        string advice = nearest is null ? "known keys: " + string.Join(", ", known) : $"did you mean '{nearest}'?";
        return "unknown key; " + advice;
    }

    /// <summary>The typed value of a node; null, and a problem, when it doesn't fit.</summary>
    private object? Value(RecipeNode node, Type type, LimitsAttribute? limits, string key)
    {
        if (RecipeKey.Element(type) is { } element)
            return node is ListNode list
                ? Activator.CreateInstance(type, Items(list, element, limits, key))
                : Wrong(node, type, key);
        if (type == typeof(TemplateOptions))
            return node is MapNode variables ? TemplateOptions.From(variables) : Wrong(node, type, key);
        if (RecipeKey.IsSection(type))
            return node is MapNode map ? Section(map, type, key) : Wrong(node, type, key);
        if (node is not ScalarNode { Text: { } text } scalar)
            return Wrong(node, type, key);
        if (type == typeof(string))
            return text;
        object? value = scalar.Quoted ? null : Scalar(text, type);
        if (value is null)
            return Wrong(node, type, key);
        if (limits is not null && !limits.Allow(Convert.ToDouble(value, CultureInfo.InvariantCulture)))
        {
            Problem(node.Origin, key, $"must be {limits}, found {text}");
            return null;
        }
        return value;
    }

    private Array Items(ListNode list, Type element, LimitsAttribute? limits, string key)
    {
        var items = Array.CreateInstance(element, list.Items.Count);
        for (int i = 0; i < items.Length; i++)
        {
            origins[$"{key}.{i}"] = list.Items[i].Origin;
            object? item = Value(list.Items[i], element, limits, $"{key}.{i}");
            items.SetValue(item ?? (element.IsValueType ? Activator.CreateInstance(element) : Empty(element)), i);
        }
        return items;
    }

    private static object? Scalar(string text, Type type)
    {
        if (type == typeof(bool))
            return text switch
            {
                "true" => true,
                "false" => false,
                _ => null,
            };
        if (type == typeof(int))
            return int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int i)
                ? i
                : null;
        if (type == typeof(long))
            return long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long l)
                ? l
                : null;
        if (type == typeof(ulong))
            return ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong u) ? u : null;
        if (type == typeof(double))
            return
                double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double d)
                && double.IsFinite(d)
                ? d
                : null;
        if (type == typeof(ModelFamily))
            return ModelFamily.All.FirstOrDefault(family => family.Name == text);
        if (type.IsEnum)
            return Enum.GetValues(type).Cast<Enum>().FirstOrDefault(v => RecipeNames.Value(v) == text);
        throw new NotSupportedException($"recipes have no type {type.Name}; add it to RecipeBinder.Scalar");
    }

    private object? Wrong(RecipeNode node, Type type, string key)
    {
        string advice =
            RecipeNames.IsChoice(type)
            && node is ScalarNode { Text: { } text }
            && RecipeNames.Nearest(text, RecipeNames.Values(type)) is { } near
                ? $"; did you mean '{near}'?"
                : "";
        Problem(node.Origin, key, $"expected {Expected(type)}, found {node.Kind}{advice}");
        return null;
    }

    /// <summary>What a value of this type looks like, in words.</summary>
    internal static string Expected(Type type)
    {
        if (RecipeNames.IsChoice(type))
            return "one of " + string.Join(", ", RecipeNames.Values(type));
        if (RecipeKey.Element(type) is { } element)
            return "a list of " + (RecipeKey.IsSection(element) ? "sections" : Expected(element));
        if (RecipeKey.IsSection(type))
        {
            string keys = string.Join(", ", RecipeKey.Of(type).Select(k => k.Name));
            return $"a section with keys {keys}"
                + (RecipeKey.BareList(type) is { } only ? $"; or a list, its {only.Name}" : "");
        }
        if (type == typeof(TemplateOptions))
            return "a section with any keys";
        return Type.GetTypeCode(type) switch
        {
            TypeCode.Boolean => "true or false",
            TypeCode.Int32 or TypeCode.Int64 => "a whole number",
            TypeCode.UInt64 => "a whole number from 0",
            TypeCode.Double => "a number",
            _ => "text",
        };
    }

    /// <summary>
    /// A record with its defaults. Required values that are not known yet are empty, so that validation can run over
    /// it.
    /// </summary>
    internal static object Empty(Type type)
    {
        if (type == typeof(string))
            return "";
        if (RecipeKey.Element(type) is { } element)
            return Activator.CreateInstance(type, Array.CreateInstance(element, 0))!;
        object section = Activator.CreateInstance(type)!;
        foreach (var key in RecipeKey.Of(type))
            if (!key.Nullable && key.Property.GetValue(section) is null)
                key.Property.SetValue(section, Empty(key.Type));
        return section;
    }

    private void Validate(object section, string at)
    {
        if (section is IRecipeSection checking)
            foreach (var conflict in checking.Validate())
                Report(conflict, at);
        foreach (var key in RecipeKey.Of(section.GetType()))
        {
            object? value = key.Property.GetValue(section);
            string below = Join(at, key.Name);
            if (value is not null && RecipeKey.IsSection(key.Type))
                Validate(value, below);
            else if (value is not null && RecipeKey.Element(key.Type) is { } element && RecipeKey.IsSection(element))
            {
                int i = 0;
                foreach (object item in (System.Collections.IEnumerable)value)
                    Validate(item, $"{below}.{i++}");
            }
        }
    }

    /// <summary>A conflict is a problem of its first key, unless one of its keys has a problem of its own.</summary>
    private void Report(Conflict conflict, string at)
    {
        string[] keys = [.. conflict.Keys.Select(k => Join(at, k))];
        if (keys.Any(HasProblem))
            return;
        var others = keys.Skip(1).Where(origins.ContainsKey).Select(k => $"{k} at {origins[k]}").ToList();
        string suffix = others.Count == 0 ? "" : $" ({string.Join(", ", others)})";
        Problem(Source.OriginOf(keys[0]), keys[0], conflict.Message + suffix);
    }

    private bool HasProblem(string key) =>
        problems
            .Take(bindingProblems)
            .Any(p =>
                p.Key == key
                || p.Key.StartsWith(key + ".", StringComparison.Ordinal)
                || (key.StartsWith(p.Key + ".", StringComparison.Ordinal) && p.Key != "")
            );

    private void Problem(string origin, string key, string message) => problems.Add(new(origin, key, message));

    private static string Join(string at, string key) => at == "" ? key : $"{at}.{key}";
}
