using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// Text ↔ token ids, from a Hugging Face <c>tokenizer.json</c> (byte-level BPE, and Llama 2's BPE with byte fallback).
/// </summary>
public sealed class Tokenizer
{
    private readonly Bpe bpe;
    private readonly TextSplitter splitter;
    private readonly Regex? added; // alternation of the added tokens' texts, longest first
    private readonly Dictionary<string, int> idByText = [];
    private readonly string?[] texts;
    private readonly byte[]?[] bytes;
    private readonly bool[] special;
    private readonly bool stripLeadingSpace;
    private readonly int[] promptPrefix; // ids in front of every prompt

    private Tokenizer(byte[] json)
    {
        Json = json;
        using var document = JsonDocument.Parse(json);
        var root = document.RootElement;
        var model = root.GetProperty("model");
        string? type = model.TryGetProperty("type", out var t) ? t.GetString() : "BPE";
        if (type != "BPE")
            throw new NotSupportedException($"tokenizer.json: model '{type}' is not supported (BPE is)");

        // Byte-pair encoding.
        splitter = new(Get(root, "normalizer"), Get(root, "pre_tokenizer"));
        foreach (var entry in model.GetProperty("vocab").EnumerateObject())
            idByText[entry.Name] = entry.Value.GetInt32();
        bpe = MakeBpe(model);

        // The text of each id; added tokens stand for their own text.
        var addedTokens = AddedTokens(root);
        foreach (var token in addedTokens)
            idByText[TextOf(token)] = token.GetProperty("id").GetInt32();
        VocabularySize = idByText.Values.Max() + 1;
        texts = new string?[VocabularySize];
        bytes = new byte[]?[VocabularySize];
        special = new bool[VocabularySize];
        var decoderParts = DecoderParts(Get(root, "decoder")).ToArray();
        bool metaspace = decoderParts.Contains("Replace");
        stripLeadingSpace = decoderParts.Contains("Strip");
        foreach (var (text, id) in idByText)
        {
            texts[id] = text;
            bytes[id] = TokenBytes(text, metaspace);
        }

        foreach (var token in addedTokens)
        {
            int id = token.GetProperty("id").GetInt32();
            bytes[id] = Encoding.UTF8.GetBytes(texts[id]!);
            special[id] = Get(token, "special").ValueKind == JsonValueKind.True;
        }

        added = PatternOf(addedTokens);
        promptPrefix = [.. TemplatePrefix(Get(root, "post_processor"))];
    }

    /// <summary>The file's bytes, to send to another process.</summary>
    public byte[] Json { get; }

    /// <summary>Largest id + 1, added tokens included.</summary>
    public int VocabularySize { get; }

    /// <summary>Reads <c>tokenizer.json</c> of a model folder.</summary>
    /// <exception cref="FileNotFoundException">The folder has no tokenizer.json.</exception>
    /// <exception cref="NotSupportedException">
    /// The file asks for something other than BPE, or for a step that is not supported; named.
    /// </exception>
    /// <exception cref="InvalidDataException">The file is not a tokenizer.json.</exception>
    public static Tokenizer Load(string folder)
    {
        string path = Path.Combine(folder, "tokenizer.json");
        if (!File.Exists(path))
            throw new FileNotFoundException(
                $"{path}: not found. A model folder needs tokenizer.json next to config.json "
                    + "(slow tokenizers: convert with transformers' save_pretrained).",
                path
            );

        try
        {
            return new(File.ReadAllBytes(path));
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path}: not a tokenizer.json: {e.Message}", e);
        }
    }

    public static Tokenizer FromJson(byte[] json) => new(json);

    /// <summary>Text → ids. Added tokens written in the text are recognised; no other token is added.</summary>
    public int[] Encode(string text)
    {
        var ids = new List<int>();
        int done = 0;
        if (added is not null)
            foreach (var match in added.EnumerateMatches(text))
            {
                EncodePlain(text[done..match.Index], ids);
                ids.Add(idByText[text.Substring(match.Index, match.Length)]);
                done = match.Index + match.Length;
            }

        EncodePlain(text[done..], ids);
        return [.. ids];
    }

    /// <summary>
    /// Like <see cref="Encode"/>, with the ids in front that the model was trained to see first (Llama's beginning of
    /// text).
    /// </summary>
    public int[] EncodePrompt(string text) => [.. promptPrefix, .. Encode(text)];

    /// <summary>Ids → text, special tokens left out unless asked for. Bytes that are not UTF-8 become U+FFFD.</summary>
    public string Decode(ReadOnlySpan<int> ids, bool withSpecialTokens = false)
    {
        var stream = Stream(withSpecialTokens);
        var text = new StringBuilder();
        foreach (int id in ids)
            text.Append(stream.Append(id));
        return text.Append(stream.Flush()).ToString();
    }

    /// <summary>A decoder that takes ids one at a time and never returns half a character.</summary>
    public StreamingDecoder Stream(bool withSpecialTokens = false) =>
        new(id => withSpecialTokens || !special[id] ? Bytes(id) : [], stripLeadingSpace);

    public int? TokenId(string text) => idByText.TryGetValue(text, out int id) ? id : null;

    public string? TokenText(int id) => id < VocabularySize ? texts[id] : null;

    /// <summary>
    /// The bytes an id stands for; a special token's are those of its text, and an id of a padded vocabulary without
    /// text has none.
    /// </summary>
    public ReadOnlySpan<byte> TokenBytes(int id) => id >= 0 && id < VocabularySize ? bytes[id] : [];

    public bool IsSpecial(int id) => id < VocabularySize && special[id];

    /// <exception cref="InvalidDataException">Some ids are beyond the model's embedding.</exception>
    public void CheckFits(ModelConfig config)
    {
        if (VocabularySize > config.VocabularySize)
            throw new InvalidDataException(
                $"the tokenizer does not fit the model: it has ids up to {VocabularySize - 1}, "
                    + $"the model's vocabulary has {config.VocabularySize}. "
                    + "Use the tokenizer.json that came with the model."
            );
    }

    private byte[] Bytes(int id) =>
        id >= 0 && id < VocabularySize && bytes[id] is { } found
            ? found
            : throw new ArgumentOutOfRangeException(
                nameof(id),
                $"token id {id} is not in the tokenizer's vocabulary of {VocabularySize}"
            );

    private void EncodePlain(string text, List<int> ids)
    {
        foreach (string word in splitter.Split(text))
            bpe.Encode(word, ids);
    }

    private byte[] TokenBytes(string text, bool metaspace)
    {
        if (splitter.ByteLevel)
            return ByteAlphabet.Decode(text);
        if (text.Length == 6 && text.StartsWith("<0x", StringComparison.Ordinal) && text[5] == '>')
            return [Convert.ToByte(text[3..5], 16)];
        return Encoding.UTF8.GetBytes(metaspace ? text.Replace('▁', ' ') : text);
    }

    private static JsonElement Get(JsonElement e, string name) =>
        e.TryGetProperty(name, out var value) ? value : default;

    private static string TextOf(JsonElement addedToken) => addedToken.GetProperty("content").GetString()!;

    private static JsonElement[] AddedTokens(JsonElement root) =>
        Get(root, "added_tokens") is { ValueKind: JsonValueKind.Array } list ? [.. list.EnumerateArray()] : [];

    /// <summary>Finds any added token, the longest first; null if there is none.</summary>
    private static Regex? PatternOf(JsonElement[] addedTokens)
    {
        if (addedTokens.Length == 0)
            return null;
        var texts = addedTokens.Select(TextOf).OrderByDescending(text => text.Length).Select(Regex.Escape);
        return new(string.Join('|', texts), RegexOptions.Compiled | RegexOptions.CultureInvariant);
    }

    private Bpe MakeBpe(JsonElement model)
    {
        bool hasUnknown = Get(model, "unk_token").ValueKind == JsonValueKind.String;
        int? unknown = hasUnknown ? idByText.GetValueOrDefault(model.GetProperty("unk_token").GetString()!) : null;
        bool ignoreMerges = Get(model, "ignore_merges").ValueKind == JsonValueKind.True;
        return new(idByText, Merges(model), splitter.ByteLevel, ignoreMerges, unknown);
    }

    private static IEnumerable<(string, string)> Merges(JsonElement model)
    {
        foreach (var merge in model.GetProperty("merges").EnumerateArray())
        {
            if (merge.ValueKind == JsonValueKind.Array)
            {
                yield return (merge[0].GetString()!, merge[1].GetString()!);
                continue;
            }
            string text = merge.GetString()!;
            int space = text.IndexOf(' ', 1);
            yield return (text[..space], text[(space + 1)..]);
        }
    }

    /// <summary>The types of the decoder's steps.</summary>
    private static IEnumerable<string> DecoderParts(JsonElement decoder)
    {
        if (decoder.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            return [];

        string type = decoder.GetProperty("type").GetString()!;
        return type switch
        {
            "Sequence" => decoder.GetProperty("decoders").EnumerateArray().SelectMany(DecoderParts),
            "ByteLevel" or "ByteFallback" or "Fuse" or "Replace" or "Strip" => [type],
            _ => throw new NotSupportedException(
                $"tokenizer.json: decoder '{type}' is not supported "
                    + "(ByteLevel, ByteFallback, Fuse, Replace, Strip and Sequence are)"
            ),
        };
    }

    /// <summary>The special tokens that the post-processor puts in front of a text.</summary>
    private IEnumerable<int> TemplatePrefix(JsonElement processor)
    {
        if (processor.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            yield break;

        bool isSequence = processor.GetProperty("type").GetString() == "Sequence";
        JsonElement[] parts = isSequence ? [.. processor.GetProperty("processors").EnumerateArray()] : [processor];
        foreach (var part in parts.Where(p => p.GetProperty("type").GetString() == "TemplateProcessing"))
        foreach (var piece in part.GetProperty("single").EnumerateArray())
        {
            if (!piece.TryGetProperty("SpecialToken", out var token))
                break;
            yield return idByText[token.GetProperty("id").GetString()!];
        }
    }
}
