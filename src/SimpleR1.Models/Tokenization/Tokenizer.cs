using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace SimpleR1.Models.Tokenization;

/// <summary>Text ↔ token ids, from a Hugging Face <c>tokenizer.json</c> (byte-level BPE, and Llama 2's BPE with byte fallback).</summary>
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
    private readonly int[] prefix;

    private Tokenizer(byte[] json)
    {
        Json = json;
        using var document = JsonDocument.Parse(json);
        var root = document.RootElement;
        var model = root.GetProperty("model");
        string? type = model.TryGetProperty("type", out var t) ? t.GetString() : "BPE";
        if (type != "BPE")
            throw new NotSupportedException($"tokenizer.json: model '{type}' is not supported (BPE is)");
        splitter = new(Get(root, "normalizer"), Get(root, "pre_tokenizer"));
        foreach (var entry in model.GetProperty("vocab").EnumerateObject())
            idByText[entry.Name] = entry.Value.GetInt32();
        var addedTokens = Get(root, "added_tokens") is { ValueKind: JsonValueKind.Array } list
            ? list.EnumerateArray().ToArray()
            : [];
        int? unknown =
            Get(model, "unk_token").ValueKind == JsonValueKind.String
                ? idByText.GetValueOrDefault(model.GetProperty("unk_token").GetString()!)
                : null;
        bpe = new(
            idByText,
            Merges(model),
            splitter.ByteLevel,
            Get(model, "ignore_merges").ValueKind == JsonValueKind.True,
            unknown
        );

        foreach (var token in addedTokens)
            idByText[token.GetProperty("content").GetString()!] = token.GetProperty("id").GetInt32();
        VocabularySize = idByText.Values.Max() + 1;
        texts = new string?[VocabularySize];
        bytes = new byte[]?[VocabularySize];
        special = new bool[VocabularySize];
        bool metaspace = DecoderParts(Get(root, "decoder")).Any(p => p.Type == "Replace");
        stripLeadingSpace = DecoderParts(Get(root, "decoder")).Any(p => p.Type == "Strip");
        foreach (var (text, id) in idByText)
            (texts[id], bytes[id]) = (text, TokenBytes(text, metaspace));
        foreach (var token in addedTokens)
        {
            int id = token.GetProperty("id").GetInt32();
            bytes[id] = Encoding.UTF8.GetBytes(texts[id]!);
            special[id] = Get(token, "special").ValueKind == JsonValueKind.True;
        }
        if (addedTokens.Length > 0)
            added = new Regex(
                string.Join(
                    '|',
                    addedTokens
                        .Select(a => a.GetProperty("content").GetString()!)
                        .OrderByDescending(a => a.Length)
                        .Select(Regex.Escape)
                ),
                RegexOptions.Compiled | RegexOptions.CultureInvariant
            );
        prefix = [.. TemplatePrefix(Get(root, "post_processor"))];
    }

    /// <summary>The file's bytes, to send to another process.</summary>
    public byte[] Json { get; }

    /// <summary>Largest id + 1, added tokens included.</summary>
    public int VocabularySize { get; }

    /// <summary>Reads <c>tokenizer.json</c> of a model folder.</summary>
    /// <exception cref="FileNotFoundException">The folder has none.</exception>
    /// <exception cref="NotSupportedException">It asks for something else than BPE, or for a step that is not supported; named.</exception>
    public static Tokenizer Load(string folder)
    {
        string path = Path.Combine(folder, "tokenizer.json");
        if (!File.Exists(path))
            throw new FileNotFoundException(
                $"{path}: not found. A model folder needs tokenizer.json beside config.json (slow tokenizers: convert with transformers' save_pretrained).",
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

    /// <summary>Text → ids. Added tokens written in the text are recognised; none is added.</summary>
    public int[] Encode(string text)
    {
        var ids = new List<int>();
        int at = 0;
        if (added is not null)
            foreach (var match in added.EnumerateMatches(text))
            {
                EncodePlain(text[at..match.Index], ids);
                ids.Add(idByText[text.Substring(match.Index, match.Length)]);
                at = match.Index + match.Length;
            }
        EncodePlain(text[at..], ids);
        return [.. ids];
    }

    /// <summary>Like <see cref="Encode"/>, with the ids in front that the model was trained to see first (Llama's beginning of text).</summary>
    public int[] EncodePrompt(string text) => [.. prefix, .. Encode(text)];

    /// <summary>Ids → text, special tokens left out unless asked for. Bytes that are no UTF-8 become U+FFFD.</summary>
    public string Decode(ReadOnlySpan<int> ids, bool withSpecialTokens = false)
    {
        var stream = Stream(withSpecialTokens);
        var text = new StringBuilder();
        foreach (int id in ids)
            text.Append(stream.Append(id));
        return text.Append(stream.Flush()).ToString();
    }

    /// <summary>A decoder that takes ids one at a time and never gives out half a character.</summary>
    public StreamingDecoder Stream(bool withSpecialTokens = false) =>
        new(id => withSpecialTokens || !special[id] ? Bytes(id) : [], stripLeadingSpace);

    public int? TokenId(string text) => idByText.TryGetValue(text, out int id) ? id : null;

    public string? TokenText(int id) => id < VocabularySize ? texts[id] : null;

    /// <summary>The bytes an id stands for, of a special token its text's; none where a padded vocabulary has an id without text.</summary>
    public ReadOnlySpan<byte> TokenBytes(int id) => id >= 0 && id < VocabularySize ? bytes[id] : [];

    public bool IsSpecial(int id) => id < VocabularySize && special[id];

    /// <exception cref="InvalidDataException">Some ids are beyond the model's embedding.</exception>
    public void CheckFits(ModelConfig config)
    {
        if (VocabularySize > config.VocabularySize)
            throw new InvalidDataException(
                $"the tokenizer does not fit the model: it has ids up to {VocabularySize - 1}, the model's vocabulary has {config.VocabularySize}. Use the tokenizer.json that came with the model."
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

    private static IEnumerable<(string Type, JsonElement Element)> DecoderParts(JsonElement decoder)
    {
        if (decoder.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            return [];
        string type = decoder.GetProperty("type").GetString()!;
        return type switch
        {
            "Sequence" => decoder.GetProperty("decoders").EnumerateArray().SelectMany(DecoderParts),
            "ByteLevel" or "ByteFallback" or "Fuse" or "Replace" or "Strip" => [(type, decoder)],
            _ => throw new NotSupportedException(
                $"tokenizer.json: decoder '{type}' is not supported (ByteLevel, ByteFallback, Fuse, Replace, Strip and Sequence are)"
            ),
        };
    }

    private IEnumerable<int> TemplatePrefix(JsonElement processor)
    {
        if (processor.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            yield break;
        var parts =
            processor.GetProperty("type").GetString() == "Sequence"
                ? processor.GetProperty("processors").EnumerateArray().ToArray()
                : [processor];
        foreach (var part in parts.Where(p => p.GetProperty("type").GetString() == "TemplateProcessing"))
        foreach (
            var piece in part.GetProperty("single")
                .EnumerateArray()
                .TakeWhile(p => p.TryGetProperty("SpecialToken", out _))
        )
            yield return idByText[piece.GetProperty("SpecialToken").GetProperty("id").GetString()!];
    }
}

/// <summary>Turns ids into text piece by piece; bytes of an unfinished character wait for the rest.</summary>
public sealed class StreamingDecoder
{
    private readonly Func<int, byte[]> bytesOf;
    private readonly System.Text.Decoder utf8 = new UTF8Encoding(false, false).GetDecoder();
    private bool stripSpace;

    internal StreamingDecoder(Func<int, byte[]> bytesOf, bool stripLeadingSpace) =>
        (this.bytesOf, stripSpace) = (bytesOf, stripLeadingSpace);

    /// <summary>The text that became certain with this id; often empty.</summary>
    public string Append(int id) => Convert(bytesOf(id), flush: false);

    /// <summary>What still waits, at the end (an incomplete character becomes U+FFFD).</summary>
    public string Flush() => Convert([], flush: true);

    private string Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        Span<char> characters = new char[utf8.GetCharCount(bytes, flush)];
        utf8.GetChars(bytes, characters, flush);
        if (stripSpace && characters.Length > 0)
        {
            if (characters[0] == ' ')
                characters = characters[1..];
            stripSpace = false;
        }
        return characters.ToString();
    }
}
