using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Training.Recipes.Yaml;

namespace SimpleR1.Training.Recipes;

/// <summary>
/// The recipes' keys as a JSON Schema (draft 7), which editors use to complete and check YAML. Generated from the records,
/// as the reference is. Combinations of values are checked only by the program.
/// </summary>
public static class RecipeJsonSchema
{
    private static readonly JsonSerializerOptions Readable = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>The definitions of the sections.</summary>
    /// <param name="AreChanges">
    /// Sections of a recipe that extends another: it may leave out every key, and take it back by giving it no value.
    /// </param>
    private sealed record Sections(JsonObject Definitions, bool AreChanges)
    {
        public string Name(Type section) => AreChanges ? section.Name + "Changes" : section.Name;

        /// <summary>Lists replace those of the base, so their sections are whole ones.</summary>
        public Sections InList => this with { AreChanges = false };
    }

    /// <summary>
    /// The text of <c>recipes/recipe.schema.json</c>. A recipe with an output is an sft recipe; one that extends another
    /// may be of either kind.
    /// </summary>
    public static string Text()
    {
        var definitions = new JsonObject();
        var whole = new Sections(definitions, AreChanges: false);
        var changes = new Sections(definitions, AreChanges: true);
        var schema = new JsonObject
        {
            ["$schema"] = "http://json-schema.org/draft-07/schema#",
            ["title"] = "A recipe of simple-r1 train, or of simple-r1 sft if it has an output",
            ["type"] = "object",
            ["if"] = new JsonObject { ["required"] = new JsonArray(ExtendedRecipe.Key) },
            ["then"] = AnyOf(Reference(typeof(TrainRecipe), changes), Reference(typeof(SftRecipe), changes)),
            ["else"] = new JsonObject
            {
                ["if"] = new JsonObject { ["required"] = new JsonArray("output") },
                ["then"] = Reference(typeof(SftRecipe), whole),
                ["else"] = Reference(typeof(TrainRecipe), whole),
            },
            ["definitions"] = definitions,
        };
        return schema.ToJsonString(Readable) + "\n";
    }

    /// <summary>Writes <see cref="Text"/> to a file.</summary>
    public static void Write(string path) => File.WriteAllText(path, Text());

    private static JsonObject Reference(Type section, Sections sections)
    {
        string name = sections.Name(section);
        if (!sections.Definitions.ContainsKey(name))
        {
            sections.Definitions[name] = null; // holds its place while its own sections are added
            sections.Definitions[name] = Section(section, sections);
        }
        return new() { ["$ref"] = $"#/definitions/{name}" };
    }

    private static JsonObject Section(Type type, Sections sections)
    {
        object defaults = RecipeBinder.Empty(type);
        var properties = new JsonObject();
        if (type.IsSubclassOf(typeof(RecipeDocument)))
            properties[ExtendedRecipe.Key] = new JsonObject
            {
                ["type"] = "string",
                ["description"] = ExtendedRecipe.Description,
            };
        foreach (var key in RecipeKey.Of(type))
            properties[key.Name] = Property(key, defaults, sections);
        var section = new JsonObject
        {
            ["type"] = "object",
            ["additionalProperties"] = false,
            ["properties"] = properties,
        };
        string[] required = [.. RecipeKey.Of(type).Where(k => k.Required).Select(k => k.Name)];
        if (required.Length > 0 && !sections.AreChanges)
            section["required"] = new JsonArray([.. required.Select(name => (JsonNode)name)]);
        return section;
    }

    private static JsonObject Property(RecipeKey key, object defaults, Sections sections)
    {
        var value = Value(key.Type, key.Limits, sections);
        bool maybeEmpty = key.Nullable || !key.Required && RecipeKey.IsSection(key.Type); // all below it is a comment
        maybeEmpty |= sections.AreChanges;
        var empty = new JsonObject { ["type"] = "null" };
        if (key.AcceptsAuto)
            empty = new() { ["enum"] = new JsonArray("auto", null) };
        var property = maybeEmpty ? AnyOf(value, empty) : value;
        if (property.ContainsKey("$ref"))
            property = new() { ["allOf"] = new JsonArray(property) }; // draft 7 ignores what stands beside a reference
        property["description"] = key.Description;
        if (!key.Required && Default(key.Property.GetValue(defaults)) is { } byDefault)
            property["default"] = byDefault;
        return property;
    }

    private static JsonObject Value(Type type, LimitsAttribute? limits, Sections sections)
    {
        if (RecipeKey.BareName(type) is { } name)
        {
            var text = Value(name.Type, name.Limits, sections);
            var named = AnyOf(Reference(RecipeKey.Element(type)!, sections.InList), text);
            return AnyOf(new() { ["type"] = "array", ["items"] = named }, (JsonObject)text.DeepClone());
        }
        if (RecipeKey.Element(type) is { } element)
            return new() { ["type"] = "array", ["items"] = Value(element, limits, sections.InList) };
        if (RecipeKey.IsSection(type))
        {
            var section = Reference(type, sections);
            if (RecipeKey.BareList(type) is not { } only)
                return section;
            bool isRecursive = RecipeKey.Element(only.Type) == type; // a list in the list has a section around it
            var list = isRecursive
                ? new JsonObject { ["type"] = "array", ["items"] = Reference(type, sections.InList) }
                : Value(only.Type, only.Limits, sections);
            return AnyOf(section, list);
        }
        if (RecipeNames.IsChoice(type))
            return new() { ["enum"] = new JsonArray([.. RecipeNames.Values(type).Select(name => (JsonNode)name)]) };

        var value = new JsonObject { ["type"] = TypeName(type) };
        if (type == typeof(ulong))
            value["minimum"] = 0;
        if (limits is not null)
            AddLimits(value, limits);
        return value;
    }

    private static JsonNode TypeName(Type type) =>
        Type.GetTypeCode(type) switch
        {
            TypeCode.Boolean => "boolean",
            TypeCode.Int32 or TypeCode.Int64 or TypeCode.UInt64 => "integer",
            TypeCode.Double => "number",
            _ => new JsonArray("string", "number", "boolean"), // text need not be quoted, whatever it looks like
        };

    private static void AddLimits(JsonObject value, LimitsAttribute limits)
    {
        foreach (
            var (name, limit) in new[]
            {
                ("minimum", limits.AtLeast),
                ("exclusiveMinimum", limits.Above),
                ("maximum", limits.AtMost),
                ("exclusiveMaximum", limits.Below),
            }
        )
            if (!double.IsInfinity(limit))
                value[name] = limit;
    }

    private static JsonObject AnyOf(JsonObject one, JsonObject other) =>
        new() { ["anyOf"] = new JsonArray(one, other) };

    /// <summary>A default as a value of JSON; null for sections, and where there is none.</summary>
    private static JsonNode? Default(object? value) =>
        value switch
        {
            bool flag => flag,
            string text => text,
            int or long or ulong or double => JsonNode.Parse(Convert.ToString(value, CultureInfo.InvariantCulture)!),
            System.Collections.IEnumerable list => new JsonArray([.. list.Cast<object>().Select(Default)]),
            _ when value is not null && RecipeNames.IsChoice(value.GetType()) => RecipeWriter.Scalar(value),
            _ => null,
        };
}
