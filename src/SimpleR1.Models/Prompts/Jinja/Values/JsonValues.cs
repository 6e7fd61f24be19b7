using System.Globalization;
using System.Numerics;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>JSON to a template's values.</summary>
internal static class JsonValues
{
    public static object Read(JsonNode? node)
    {
        switch (node)
        {
            case null:
                return None.Value;
            case JsonArray array:
                return new Sequence([.. array.Select(Read)]);
            case JsonObject members:
                var mapping = new Mapping();
                foreach (var (name, value) in members)
                    mapping.Entries[name] = Read(value);
                return mapping;
            default:
                return ReadScalar(node);
        }
    }

    private static object ReadScalar(JsonNode node)
    {
        switch (node.GetValueKind())
        {
            case JsonValueKind.String:
                return node.GetValue<string>();
            case JsonValueKind.True:
                return true;
            case JsonValueKind.False:
                return false;
            case JsonValueKind.Null:
                return None.Value;
            default:
                string digits = node.ToJsonString();
                return digits.AsSpan().ContainsAny('.', 'e', 'E')
                    ? double.Parse(digits, CultureInfo.InvariantCulture)
                    : BigInteger.Parse(digits, CultureInfo.InvariantCulture);
        }
    }
}
