using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Training.Recipes.Yaml;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>Variables of a chat template: any keys with any values. Compares by value, as recipes do.</summary>
public sealed class TemplateOptions : IEquatable<TemplateOptions>
{
    private static readonly JsonSerializerOptions Readable = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private readonly JsonObject variables;

    public TemplateOptions()
        : this([]) { }

    public TemplateOptions(JsonObject variables) => this.variables = variables;

    /// <summary>A copy of the variables.</summary>
    public JsonObject Variables => (JsonObject)variables.DeepClone();

    internal static TemplateOptions From(MapNode map) => new(Object(map));

    private static JsonObject Object(MapNode map)
    {
        var members = new JsonObject();
        foreach (var entry in map.Entries)
            members[entry.Key] = Value(entry.Value);
        return members;
    }

    private static JsonNode? Value(RecipeNode node) =>
        node switch
        {
            MapNode map => Object(map),
            ListNode list => new JsonArray([.. list.Items.Select(Value)]),
            ScalarNode { Text: null } => null,
            ScalarNode { Quoted: false } plain => Plain(plain.Text!),
            ScalarNode quoted => JsonValue.Create(quoted.Text),
            _ => throw new NotSupportedException($"template options can't hold {node.Kind}"),
        };

    /// <summary>true, false and numbers have their type; all else is text.</summary>
    private static JsonNode Plain(string text)
    {
        if (text is "true" or "false")
            return JsonValue.Create(text == "true");
        if (long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long integer))
            return JsonValue.Create(integer);
        return
            double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number)
            && double.IsFinite(number)
            ? JsonValue.Create(number)
            : JsonValue.Create(text);
    }

    public bool Equals(TemplateOptions? other) => other is not null && JsonNode.DeepEquals(variables, other.variables);

    public override bool Equals(object? obj) => Equals(obj as TemplateOptions);

    public override int GetHashCode() => variables.Count;

    /// <summary>As JSON, which is YAML too.</summary>
    public override string ToString() => variables.ToJsonString(Readable);
}
