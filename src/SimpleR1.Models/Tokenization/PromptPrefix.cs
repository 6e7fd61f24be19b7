using System.Text.Json;
using SimpleR1.Models.Json;

namespace SimpleR1.Models.Tokenization;

/// <summary>The ids in front of every prompt, from a tokenizer's files.</summary>
internal static class PromptPrefix
{
    /// <summary>
    /// Classes of transformers that put the beginning-of-text token in front themselves, whatever tokenizer.json says.
    /// </summary>
    private static readonly string[] ClassesWithFlag =
    [
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "CodeLlamaTokenizer",
        "CodeLlamaTokenizerFast",
        "GemmaTokenizer",
        "GemmaTokenizerFast",
    ];

    /// <summary>Reads a tokenizer.json's <c>post_processor</c>.</summary>
    public static int[] Read(JsonSection? processor)
    {
        if (processor is null)
            return [];

        int[] prefix = [];
        string type = processor.Text("type");
        switch (type)
        {
            case "Sequence":
                foreach (var part in processor.Sections("processors"))
                    prefix = [.. Read(part), .. prefix];
                break;
            case "ByteLevel":
                foreach (string unused in (string[])["add_prefix_space", "trim_offsets", "use_regex"])
                    processor.Flag(unused, true); // of positions in the text, not of ids
                break;
            case "TemplateProcessing":
                prefix = ReadTemplate(processor);
                break;
            default:
                throw processor.Unsupported(
                    "type",
                    $"the post-processor '{type}' is not supported (TemplateProcessing, ByteLevel and Sequence are)"
                );
        }

        processor.RefuseUnread();
        return prefix;
    }

    /// <summary>
    /// What a folder's <c>tokenizer_config.json</c> says of the beginning-of-text token; null where it leaves that to
    /// tokenizer.json.
    /// </summary>
    public static int[]? ReadConfig(string path, Func<string, int?> idOf) =>
        ModelFile.Read(path).Parse("a tokenizer_config.json", root => ReadConfig(root, idOf));

    private static int[]? ReadConfig(JsonSection root, Func<string, int?> idOf)
    {
        if (!ClassesWithFlag.Contains(root.TextOrNull("tokenizer_class")))
            return null;
        if (root.Flag("add_eos_token", false))
            throw root.Unsupported(
                "add_eos_token",
                "an end of text after every prompt is not supported: nothing can continue it. Set it to false"
            );
        if (!root.Flag("add_bos_token", true))
            return [];

        // The token is a text, or an object with its content.
        string? text =
            root.Take("bos_token").ValueKind == JsonValueKind.Object
                ? root.Section("bos_token").Text("content")
                : root.TextOrNull("bos_token");
        if (text is null)
            return null;
        return idOf(text) is { } id ? [id] : throw root.Problem("bos_token", $"'{text}' is not in tokenizer.json");
    }

    private static int[] ReadTemplate(JsonSection template)
    {
        var special = template.Section("special_tokens");
        template.Take("pair"); // of two texts, which a prompt never is
        var prefix = new List<int>();
        bool textSeen = false;
        foreach (var piece in template.Sections("single"))
        {
            if (piece.SectionOrNull("Sequence") is { } sequence)
            {
                if (textSeen || sequence.Text("id") != "A")
                    throw template.Unsupported("single", "it must hold the text (Sequence A) once");
                sequence.Take("type_id");
                sequence.RefuseUnread();
                textSeen = true;
            }
            else if (textSeen)
                throw template.Unsupported(
                    "single",
                    "tokens after the text are not supported: nothing can continue a prompt after its end. Take them out"
                );
            else
                prefix.AddRange(Ids(piece.Section("SpecialToken"), special));

            piece.RefuseUnread();
        }

        return textSeen ? [.. prefix] : throw template.Problem("single", "the text (Sequence A) is missing");
    }

    private static IReadOnlyList<int> Ids(JsonSection token, JsonSection special)
    {
        token.Take("type_id");
        string name = token.Text("id");
        token.RefuseUnread();
        var entry = special.SectionOrNull(name) ?? throw special.Problem(name, "missing, but the template names it");
        return entry.WholeNumbers("ids");
    }
}
