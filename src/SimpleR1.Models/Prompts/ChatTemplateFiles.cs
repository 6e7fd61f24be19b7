using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace SimpleR1.Models.Prompts;

/// <summary>The chat templates of a model folder, and the special tokens that they print.</summary>
internal sealed record ChatTemplateFiles
{
    private const string ConfigFile = "tokenizer_config.json";
    private const string JinjaFile = "chat_template.jinja";
    private const string Key = "chat_template";
    private const string Default = "default";

    private static readonly string[] SpecialTokens =
    [
        "bos_token",
        "eos_token",
        "unk_token",
        "sep_token",
        "pad_token",
        "cls_token",
        "mask_token",
    ];

    private static readonly JsonSerializerOptions Readable = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        WriteIndented = true,
    };

    /// <summary>The template's text; null if the folder has none.</summary>
    public string? Source { get; private init; }

    /// <summary>The template of conversations with tools, where it is another one.</summary>
    public string? ToolSource { get; private init; }

    /// <summary>Where the template was found, for errors.</summary>
    public string Origin { get; private init; } = "";

    /// <summary>bos_token, eos_token and others, by name.</summary>
    public required JsonObject Tokens { get; init; }

    /// <summary>
    /// Reads chat_template.jinja, else chat_template of tokenizer_config.json (a text, or a list of named ones), else
    /// chat_template.json.
    /// </summary>
    /// <exception cref="InvalidDataException">A file is not what its name says; named.</exception>
    public static ChatTemplateFiles Read(string folder)
    {
        var config = ReadObject(Path.Combine(folder, ConfigFile));
        var tokens = ReadTokens(folder, config);

        string jinja = Path.Combine(folder, JinjaFile);
        if (File.Exists(jinja))
            return new()
            {
                Source = File.ReadAllText(jinja),
                ToolSource = ReadOptional(Path.Combine(folder, "additional_chat_templates", "tool_use.jinja")),
                Origin = jinja,
                Tokens = tokens,
            };

        string origin = Path.Combine(folder, ConfigFile);
        var value = config?[Key];
        if (value is null)
        {
            origin = Path.Combine(folder, "chat_template.json");
            value = ReadObject(origin)?[Key];
        }
        return value switch
        {
            null => new() { Tokens = tokens },
            JsonArray named => FromNamed(Named(named, origin), origin, tokens),
            JsonObject named => FromNamed(named.ToDictionary(n => n.Key, n => Text(n.Value, origin)), origin, tokens),
            _ => new()
            {
                Source = Text(value, origin),
                Origin = origin,
                Tokens = tokens,
            },
        };
    }

    private static ChatTemplateFiles FromNamed(Dictionary<string, string> named, string origin, JsonObject tokens) =>
        named.TryGetValue(Default, out string? source)
            ? new()
            {
                Source = source,
                ToolSource = named.GetValueOrDefault("tool_use"),
                Origin = origin,
                Tokens = tokens,
            }
            : throw new InvalidDataException(
                $"{origin}: none of its chat templates is called '{Default}'; found {string.Join(", ", named.Keys)}"
            );

    private static Dictionary<string, string> Named(JsonArray list, string origin)
    {
        var named = new Dictionary<string, string>();
        foreach (var item in list)
        {
            if (item is not JsonObject entry)
                throw new InvalidDataException($"{origin}: '{Key}' should be a text or a list of {{name, template}}");
            named[Text(entry["name"], origin)] = Text(entry["template"], origin);
        }
        return named;
    }

    private static string Text(JsonNode? node, string origin) =>
        node is JsonValue value && value.TryGetValue(out string? text)
            ? text
            : throw new InvalidDataException($"{origin}: '{Key}' should be a text or a list of {{name, template}}");

    /// <summary>tokenizer_config.json's tokens; older folders have them in special_tokens_map.json.</summary>
    private static JsonObject ReadTokens(string folder, JsonObject? config)
    {
        var older = config?["added_tokens_decoder"] is null
            ? ReadObject(Path.Combine(folder, "special_tokens_map.json"))
            : null;
        var tokens = new JsonObject();
        foreach (string name in SpecialTokens)
            if ((TokenText(older?[name]) ?? TokenText(config?[name])) is { } text)
                tokens[name] = text;
        if (config?["extra_special_tokens"] is JsonObject extra)
            foreach (var (name, token) in extra)
                if (TokenText(token) is { } text)
                    tokens[name] = text;
        return tokens;
    }

    /// <summary>A token is a text, or an object with its text as content.</summary>
    private static string? TokenText(JsonNode? token)
    {
        var content = token is JsonObject described ? described["content"] : token;
        return content is JsonValue value && value.TryGetValue(out string? text) ? text : null;
    }

    private static string? ReadOptional(string path) => File.Exists(path) ? File.ReadAllText(path) : null;

    private static JsonObject? ReadObject(string path)
    {
        if (!File.Exists(path))
            return null;
        try
        {
            return JsonNode.Parse(File.ReadAllText(path)) as JsonObject
                ?? throw new InvalidDataException($"{path}: expected a JSON object");
        }
        catch (Exception e) when (e is JsonException or ArgumentException)
        {
            throw new InvalidDataException($"{path}: not valid JSON: {e.Message}", e);
        }
    }

    /// <summary>Makes a template the one that a folder's tokenizer has, wherever loaders look for it.</summary>
    public static void Write(string folder, string source)
    {
        File.WriteAllText(Path.Combine(folder, JinjaFile), source);
        string path = Path.Combine(folder, ConfigFile);
        if (ReadObject(path) is not { } config)
            return;
        config[Key] = source;
        File.WriteAllText(path, config.ToJsonString(Readable));
    }
}
