using System.Text;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Json;
using SimpleR1.Models.Tokenization.Decoding;
using SimpleR1.Models.Tokenization.Normalization;
using SimpleR1.Models.Tokenization.Splitting;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// Text ↔ token ids, from a Hugging Face <c>tokenizer.json</c> (byte-level BPE, and Llama 2's BPE with byte fallback).
/// Every option of the file acts, or is refused by name.
/// </summary>
public sealed class Tokenizer
{
    private readonly Bpe bpe;
    private readonly PreTokenizer preTokenizer;
    private readonly AddedTokens added;
    private readonly DecoderChain decoder;
    private readonly Dictionary<string, int> idByText;
    private readonly string?[] texts;
    private readonly byte[]?[] bytes;
    private readonly bool[] special;
    private readonly int[] promptPrefix; // ids in front of every prompt

    private Tokenizer(byte[] json, JsonSection root, string? folder)
    {
        Json = json;
        string version = root.TextOrNull("version") ?? "1.0";
        if (version != "1.0")
            throw root.Unsupported("version", $"'{version}' is not supported (1.0 is)");
        foreach (string key in (string[])["truncation", "padding"])
            if (root.Has(key))
                throw root.Unsupported(key, "prompts are neither cut nor padded; set it to null");

        // From text to ids
        var model = BpeModel.Read(root.Section("model"));
        var normalizer = new Normalizer(root.SectionOrNull("normalizer"));
        preTokenizer = new(root.SectionOrNull("pre_tokenizer"));
        bpe = new(model, preTokenizer.SpellsBytes);
        var tokens = ReadAddedTokens(root, model);
        added = new(tokens, normalizer);

        // From ids to text
        decoder = new(root.SectionOrNull("decoder"));
        idByText = new(model.Vocabulary);
        foreach (var token in tokens)
            idByText[token.Content] = token.Id;
        VocabularySize = idByText.Values.Max() + 1;
        texts = new string?[VocabularySize];
        bytes = new byte[]?[VocabularySize];
        special = new bool[VocabularySize];
        foreach (var (text, id) in idByText)
        {
            texts[id] = text;
            bytes[id] = decoder.BytesOf(text);
        }

        foreach (var token in tokens)
            special[token.Id] = token.Special;

        // Around a prompt
        int[] prefix = PromptPrefix.Read(root.SectionOrNull("post_processor"));
        root.RefuseUnread();
        string config = Path.Combine(folder ?? "", "tokenizer_config.json");
        bool hasConfig = folder is not null && File.Exists(config);
        promptPrefix = (hasConfig ? PromptPrefix.ReadConfig(config, TokenId) : null) ?? prefix;
    }

    /// <summary>The file's bytes, to send to another process.</summary>
    public byte[] Json { get; }

    /// <summary>Largest id + 1, added tokens included.</summary>
    public int VocabularySize { get; }

    /// <summary>Reads <c>tokenizer.json</c> of a model folder.</summary>
    /// <exception cref="FileNotFoundException">The folder has no tokenizer.json.</exception>
    /// <exception cref="NotSupportedException">
    /// The file asks for something other than BPE, or for a step or an option that is not supported; named, with its
    /// line.
    /// </exception>
    /// <exception cref="InvalidDataException">The file is not a tokenizer.json.</exception>
    public static Tokenizer Load(string folder)
    {
        folder = ModelFolder.Resolve(folder);
        string path = Path.Combine(folder, "tokenizer.json");
        if (!File.Exists(path))
            throw new FileNotFoundException(
                $"{path}: not found. A model folder needs tokenizer.json next to config.json "
                    + "(slow tokenizers: convert with transformers' save_pretrained).",
                path
            );
        return Read(ModelFile.Read(path), folder);
    }

    /// <inheritdoc cref="Load"/>
    public static Tokenizer FromJson(byte[] json) => Read(new("tokenizer.json", json), null);

    private static Tokenizer Read(ModelFile file, string? folder) =>
        file.Parse("a tokenizer.json", root => new Tokenizer(file.Bytes, root, folder));

    /// <summary>Text → ids. Added tokens written in the text are recognised; no other token is added.</summary>
    public int[] Encode(string text)
    {
        var ids = new List<int>();
        foreach (var (word, token) in added.Split(WholeCharacters(text)))
        {
            if (token is not null)
                ids.Add(token.Id);
            else
                foreach (var part in preTokenizer.Split(word))
                    bpe.Encode(part.Text, ids);
        }

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
    /// <param name="context">
    /// Ids before the first one. A text's first token may lose its space, so a continuation must not be taken for a
    /// beginning.
    /// </param>
    public StreamingDecoder Stream(bool withSpecialTokens = false, ReadOnlySpan<int> context = default)
    {
        var stream = Begin();
        if (context.Length > 0)
        {
            var last = context[^Math.Min(context.Length, decoder.Context)..].ToArray();
            stream.Continue([.. last.Where(id => TokenText(id) is not null)], Begin());
        }

        return stream;

        StreamingDecoder Begin() => new(decoder, id => withSpecialTokens || !special[id] ? Text(id) : null);
    }

    public int? TokenId(string text) => idByText.TryGetValue(text, out int id) ? id : null;

    public string? TokenText(int id) => id < VocabularySize ? texts[id] : null;

    /// <summary>
    /// The bytes an id stands for within a text; a special token's are those of its text, and an id of a padded
    /// vocabulary without text has none.
    /// </summary>
    public ReadOnlySpan<byte> TokenBytes(int id) => id >= 0 && id < VocabularySize ? bytes[id] : [];

    public bool IsSpecial(int id) => id < VocabularySize && special[id];

    /// <summary>The special token that is written in a text, and its text; the first of them.</summary>
    /// <returns>null if the text has none.</returns>
    public (int Id, string Text)? FindSpecial(string text)
    {
        foreach (var (_, token) in added.Split(WholeCharacters(text)))
            if (token is { Special: true })
                return (token.Id, token.Content);
        return null;
    }

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

    private string Text(int id) =>
        id >= 0 && id < VocabularySize && texts[id] is { } text
            ? text
            : throw new ArgumentOutOfRangeException(
                nameof(id),
                $"token id {id} is not in the tokenizer's vocabulary of {VocabularySize}"
            );

    /// <summary>A lone surrogate is no character; it becomes U+FFFD, as in any text of bytes.</summary>
    private static string WholeCharacters(string text)
    {
        bool mayHaveLone = text.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF');
        return mayHaveLone ? Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)) : text;
    }

    /// <summary>The file's added tokens, whose ids agree with the vocabulary where it has them too.</summary>
    private static IReadOnlyList<AddedToken> ReadAddedTokens(JsonSection root, BpeModel model)
    {
        var tokens = new List<AddedToken>();
        foreach (var section in root.Sections("added_tokens"))
        {
            var token = AddedToken.Read(section);
            int expected = model.Vocabulary.GetValueOrDefault(token.Content, token.Id);
            if (token.Id != expected)
                throw section.Problem("id", $"'{token.Content}' is {token.Id} here, but {expected} in the vocabulary");
            tokens.Add(token);
        }

        return tokens;
    }
}
