using System.Text;
using SimpleR1.Models.Json;
using SimpleR1.Models.Tokenization.Normalization;
using SimpleR1.Models.Tokenization.Splitting;

namespace SimpleR1.Models.Tokenization.Decoding;

/// <summary>How a tokenizer.json's <c>decoder</c> makes a text of tokens.</summary>
internal sealed class DecoderChain
{
    /// <summary>Tokens after which the beginning of a text no longer matters to byte-level decoders.</summary>
    private const int LongestCharacter = 4;

    private readonly List<Func<Action<string>, DecoderStep>> steps = [];
    private readonly List<Func<string, string>> maps = []; // what happens to a token within a text
    private bool byteLevel;
    private bool byteFallback;
    private bool fused; // a step before has made one text of all tokens

    /// <param name="section">The file's <c>decoder</c>; null joins tokens by spaces.</param>
    public DecoderChain(JsonSection? section)
    {
        if (section is null)
            steps.Add(output => new FirstStep(text => text, text => " " + text, output));
        else
            Add(section);
        NeedsWholeContext = steps.Count != 1 || !byteLevel;
    }

    /// <summary>A text's continuation depends on all of its tokens, not on the last few only.</summary>
    public bool NeedsWholeContext { get; }

    /// <summary>How many of the last tokens of a text its continuation depends on.</summary>
    public int Context => NeedsWholeContext ? int.MaxValue : LongestCharacter;

    /// <summary>Steps for one text, the first to push tokens to and all of them to flush in order.</summary>
    /// <param name="output">Takes the pieces of text.</param>
    public IReadOnlyList<DecoderStep> Begin(Action<string> output)
    {
        var begun = new DecoderStep[steps.Count];
        for (int i = steps.Count - 1; i >= 0; i--)
        {
            begun[i] = steps[i](output);
            output = begun[i].Push;
        }

        return begun;
    }

    /// <summary>The bytes that a token stands for within a text.</summary>
    public byte[] BytesOf(string token)
    {
        if (byteFallback && ByteFallbackStep.ByteOf(token) is { } value)
            return [value];
        foreach (var map in maps)
            token = map(token);
        return byteLevel ? ByteAlphabet.Decode(token) : Encoding.UTF8.GetBytes(token);
    }

    private void Add(JsonSection section)
    {
        string type = section.Text("type");
        switch (type)
        {
            case "Sequence":
                foreach (var part in section.Sections("decoders"))
                    Add(part);
                break;
            case "ByteLevel":
                foreach (string unused in (string[])["add_prefix_space", "trim_offsets", "use_regex"])
                    section.Flag(unused, true); // these act before byte-pair encoding only
                RequireTokens(section, type);
                steps.Add(output => new ByteLevelStep(output));
                byteLevel = true;
                fused = true;
                break;
            case "ByteFallback":
                RequireTokens(section, type);
                steps.Add(output => new ByteFallbackStep(output));
                byteFallback = true;
                break;
            case "Fuse":
                fused = true;
                break;
            default:
                AddWithOptions(section, type);
                break;
        }

        section.RefuseUnread();
    }

    private void AddWithOptions(JsonSection section, string type)
    {
        switch (type)
        {
            case "Replace":
                AddReplace(Replacement.Read(section));
                break;
            case "Strip":
                AddStrip(section);
                break;
            case "Metaspace":
                AddMetaspace(Metaspace.Read(section));
                break;
            case "BPEDecoder":
                RequireTokens(section, type);
                string suffix = section.Text("suffix");
                if (suffix.Length == 0)
                    throw section.Unsupported("suffix", "an empty text is not supported");
                string Inner(string text) => text.Replace(suffix, " ", StringComparison.Ordinal);
                steps.Add(o => new LastStep(text => text.Replace(suffix, "", StringComparison.Ordinal), Inner, o));
                maps.Add(Inner);
                break;
            default:
                throw section.Unsupported(
                    "type",
                    $"the decoder '{type}' is not supported (ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, "
                        + "BPEDecoder and Sequence are)"
                );
        }
    }

    private void AddReplace(Replacement replacement)
    {
        if (fused)
            steps.Add(output => new ReplaceStep(replacement, output));
        else
            steps.Add(output => new MapStep(replacement.Apply, output));
        if (!byteLevel)
            maps.Add(replacement.Apply);
    }

    private void AddStrip(JsonSection section)
    {
        string content = section.Text("content");
        int start = section.Whole("start");
        int stop = section.Whole("stop");
        if (content.Length != 1)
            throw section.Unsupported("content", "other than one character below U+10000 is not supported");
        if (start < 0 || stop < 0)
            throw section.Problem(start < 0 ? "start" : "stop", "expected 0 or more");

        if (fused)
        {
            steps.Add(output => new StripStep(content[0], start, stop, output));
            return;
        }

        steps.Add(output => new MapStep(Strip, output));
        maps.Add(Strip);

        string Strip(string text)
        {
            int first = 0;
            while (first < Math.Min(start, text.Length) && text[first] == content[0])
                first++;
            int end = text.Length;
            while (end > first && text.Length - end < stop && text[end - 1] == content[0])
                end--;
            return text[first..end];
        }
    }

    private void AddMetaspace(Metaspace space)
    {
        string Inner(string text) => text.Replace(space.Replacement, " ", StringComparison.Ordinal);
        string First(string text) =>
            space.Scheme == "never" ? Inner(text) : text.Replace(space.Replacement, "", StringComparison.Ordinal);

        if (fused)
            steps.Add(output => new MapStep(First, output)); // the whole text is the first one
        else
            steps.Add(output => new FirstStep(First, Inner, output));
        if (!byteLevel)
            maps.Add(Inner);
    }

    private void RequireTokens(JsonSection section, string type)
    {
        if (fused)
            throw section.Unsupported("type", $"the decoder '{type}' after one that joins all tokens is not supported");
    }
}
