using System.Globalization;
using System.Reflection;
using SimpleR1.Models;

namespace SimpleR1.Training.Recipes;

/// <summary>What the binder, the writer and the reference need to know about one key: read from a record's property.</summary>
internal sealed record RecipeKey(
    PropertyInfo Property,
    string Name,
    Type Type,
    bool Nullable,
    bool Required,
    LimitsAttribute? Limits,
    string Description
)
{
    private static readonly NullabilityInfoContext Nullability = new();

    /// <summary>The keys of a section: its settable properties, in the order of the code.</summary>
    public static IReadOnlyList<RecipeKey> Of(Type section)
    {
        lock (Nullability)
            return
            [
                .. section
                    .GetProperties()
                    .Where(p => p.CanWrite)
                    .Select(p => new RecipeKey(
                        p,
                        RecipeNames.Key(p.Name),
                        System.Nullable.GetUnderlyingType(p.PropertyType) ?? p.PropertyType,
                        System.Nullable.GetUnderlyingType(p.PropertyType) is not null
                            || (
                                !p.PropertyType.IsValueType
                                && Nullability.Create(p).WriteState is NullabilityState.Nullable
                            ),
                        IsRequired(p),
                        p.GetCustomAttribute<LimitsAttribute>(),
                        p.GetCustomAttribute<System.ComponentModel.DescriptionAttribute>()?.Description ?? ""
                    )),
            ];
    }

    /// <summary>By name, because ScottPlot brings a public type of the same name.</summary>
    private static bool IsRequired(PropertyInfo property) =>
        property.CustomAttributes.Any(a =>
            a.AttributeType.FullName == "System.Runtime.CompilerServices.RequiredMemberAttribute"
        );

    /// <summary>The element type of a <see cref="ValueList{T}"/>, else null.</summary>
    public static Type? Element(Type type) =>
        type.IsGenericType && type.GetGenericTypeDefinition() == typeof(ValueList<>)
            ? type.GetGenericArguments()[0]
            : null;

    /// <summary>The key that a list in the section's place is, or null; see <see cref="BareListAttribute"/>.</summary>
    public static RecipeKey? BareList(Type section) =>
        section.GetCustomAttribute<BareListAttribute>() is { } bare
            ? Of(section).Single(k => k.Property.Name == bare.Property)
            : null;

    /// <summary>True for a nested record with keys of its own.</summary>
    public static bool IsSection(Type type) =>
        type.IsClass && type != typeof(string) && Element(type) is null && !RecipeNames.IsChoice(type);
}

/// <summary>Nodes → records, with every problem collected and where each key was written remembered.</summary>
internal sealed class RecipeBinder(string path, List<RecipeProblem> problems)
{
    private readonly Dictionary<string, string> origins = [];
    private int bindingProblems;

    /// <summary>Binds and validates; the result may only be used when no problem was found.</summary>
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
            if (keys.FirstOrDefault(k => k.Name == entry.Key) is not { } known)
            {
                string? nearest = RecipeNames.Nearest(entry.Key, keys.Select(k => k.Name));
                string advice = nearest is null
                    ? "known keys: " + string.Join(", ", keys.Select(k => k.Name))
                    : $"did you mean '{nearest}'?";
                Problem(entry.Origin, key, "unknown key; " + advice);
            }
            else if (entry.Value is ScalarNode { Text: null })
            {
                if (known.Nullable)
                    known.Property.SetValue(section, null);
                else if (RecipeKey.IsSection(known.Type) && !known.Required)
                    continue; // "section:" with everything below it commented out
                else
                    Problem(entry.Origin, key, $"expected {Expected(known.Type)}, found nothing");
            }
            else if (Value(entry.Value, known.Type, known.Limits, key) is { } value)
                known.Property.SetValue(section, value);
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

    /// <summary>The typed value of a node; null, and a problem, when it doesn't fit.</summary>
    private object? Value(RecipeNode node, Type type, LimitsAttribute? limits, string key)
    {
        if (RecipeKey.Element(type) is { } element)
        {
            if (node is not ListNode list)
                return Wrong(node, type, key);
            var items = Array.CreateInstance(element, list.Items.Count);
            for (int i = 0; i < items.Length; i++)
            {
                origins[$"{key}.{i}"] = list.Items[i].Origin;
                items.SetValue(
                    Value(list.Items[i], element, limits, $"{key}.{i}")
                        ?? (element.IsValueType ? Activator.CreateInstance(element) : Empty(element)),
                    i
                );
            }
            return Activator.CreateInstance(type, items);
        }
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
    internal static string Expected(Type type) =>
        RecipeNames.IsChoice(type) ? "one of " + string.Join(", ", RecipeNames.Values(type))
        : type == typeof(bool) ? "true or false"
        : type == typeof(int) || type == typeof(long) ? "a whole number"
        : type == typeof(ulong) ? "a whole number from 0"
        : type == typeof(double) ? "a number"
        : type == typeof(string) ? "text"
        : RecipeKey.Element(type) is { } element
            ? $"a list of {(RecipeKey.IsSection(element) ? "sections" : Expected(element))}"
        : "a section with keys "
            + string.Join(", ", RecipeKey.Of(type).Select(k => k.Name))
            + (RecipeKey.BareList(type) is { } only ? $"; or a list, its {only.Name}" : "");

    /// <summary>A record with its defaults; required values that are not known yet get an empty one, so that validation can run over it.</summary>
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
            {
                string[] keys = [.. conflict.Keys.Select(k => Join(at, k))];
                if (keys.Any(HasProblem))
                    continue;
                var others = keys.Skip(1).Where(origins.ContainsKey).Select(k => $"{k} at {origins[k]}").ToList();
                Problem(
                    OriginOf(keys[0]),
                    keys[0],
                    conflict.Message + (others.Count == 0 ? "" : $" ({string.Join(", ", others)})")
                );
            }
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

    private bool HasProblem(string key) =>
        problems
            .Take(bindingProblems)
            .Any(p =>
                p.Key == key
                || p.Key.StartsWith(key + ".", StringComparison.Ordinal)
                || (key.StartsWith(p.Key + ".", StringComparison.Ordinal) && p.Key != "")
            );

    /// <summary>Where a key was written, or the section around it, or the file when all of it is default.</summary>
    private string OriginOf(string key)
    {
        for (string at = key; at != ""; at = at.Contains('.') ? at[..at.LastIndexOf('.')] : "")
            if (origins.TryGetValue(at, out string? origin))
                return origin;
        return path;
    }

    private void Problem(string origin, string key, string message) => problems.Add(new(origin, key, message));

    private static string Join(string at, string key) => at == "" ? key : $"{at}.{key}";
}
