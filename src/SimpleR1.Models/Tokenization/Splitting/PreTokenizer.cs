using SimpleR1.Models.Json;
using SimpleR1.Models.Tokenization.Normalization;
using SimpleR1.Models.Tokenization.Patterns;

namespace SimpleR1.Models.Tokenization.Splitting;

/// <summary>A part of a text on its way to byte-pair encoding.</summary>
/// <param name="AtStart">It begins where the whole text begins.</param>
internal readonly record struct Word(string Text, bool AtStart);

/// <summary>What a tokenizer.json's <c>pre_tokenizer</c> does: it cuts a text into words, step by step.</summary>
internal sealed class PreTokenizer
{
    private const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    private const string PunctuationPattern = @"[!-/:-@\[-`{-~\p{P}]";

    private readonly List<Action<Word, List<Word>>> steps = [];

    /// <param name="section">The file's <c>pre_tokenizer</c>; null leaves a text whole.</param>
    public PreTokenizer(JsonSection? section)
    {
        if (section is not null)
            Add(section);

        // The last step's spelling in bytes is left to the model, which does it once for each word that it keeps.
        SpellsBytes = steps.Count > 0 && steps[^1] == SpellBytes;
        if (SpellsBytes)
            steps.RemoveAt(steps.Count - 1);
    }

    /// <summary>Words are spelt in the characters that stand for bytes; the caller does so.</summary>
    public bool SpellsBytes { get; }

    /// <summary>The words of a text, none of them empty.</summary>
    public IReadOnlyList<Word> Split(Word text)
    {
        List<Word> words = [text];
        foreach (var step in steps)
        {
            var next = new List<Word>(words.Count);
            foreach (var word in words)
                step(word, next);
            words = next;
        }

        return words;
    }

    private void Add(JsonSection section)
    {
        string type = section.Text("type");
        switch (type)
        {
            case "Sequence":
                foreach (var part in section.Sections("pretokenizers"))
                    Add(part);
                break;
            case "ByteLevel":
                AddByteLevel(section);
                break;
            case "Metaspace":
                AddMetaspace(section);
                break;
            case "Split":
                AddSplit(section);
                break;
            case "Digits":
                bool individual = section.Flag("individual_digits");
                Cut(@"\p{N}", individual ? SplitBehavior.Isolated : SplitBehavior.Contiguous);
                break;
            case "Punctuation":
                Cut(PunctuationPattern, SplitBehaviors.Read(section, SplitBehavior.Isolated));
                break;
            case "Whitespace":
                Cut(@"[\w\u200C\u200D]+|[^\w\s\u200C\u200D]+", SplitBehavior.Removed, invert: true);
                break;
            case "WhitespaceSplit":
                Cut(@"\s", SplitBehavior.Removed);
                break;
            case "BertPreTokenizer":
                Cut(@"\s", SplitBehavior.Removed);
                Cut(PunctuationPattern, SplitBehavior.Isolated);
                break;
            default:
                AddRare(section, type);
                break;
        }

        section.RefuseUnread();
    }

    private void AddRare(JsonSection section, string type)
    {
        switch (type)
        {
            case "CharDelimiterSplit":
                var delimiter = CodePointPattern.Exactly(section.Text("delimiter"));
                steps.Add((word, words) => SplitBehaviors.Cut(word, delimiter, SplitBehavior.Removed, false, words));
                break;
            case "FixedLength":
                int length = section.Whole("length", 5);
                if (length <= 0)
                    throw section.Problem("length", $"expected a positive number, found {length}");
                Cut($@"(?m:.){{1,{length}}}", SplitBehavior.Isolated);
                break;
            default:
                throw section.Unsupported(
                    "type",
                    $"the pre-tokenizer '{type}' is not supported (ByteLevel, Metaspace, Split, Digits, Punctuation, "
                        + "Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit, FixedLength and Sequence are)"
                );
        }
    }

    private void AddByteLevel(JsonSection section)
    {
        bool addSpace = section.Flag("add_prefix_space", true);
        section.Flag("trim_offsets", true); // of positions in the text, not of ids
        bool useRegex = section.Flag("use_regex", true);
        if (addSpace)
            steps.Add(
                (word, words) => words.Add(word.Text.StartsWith(' ') ? word : word with { Text = " " + word.Text })
            );
        if (useRegex)
            Cut(Gpt2Pattern, SplitBehavior.Isolated);
        steps.Add(SpellBytes);
    }

    private static void SpellBytes(Word word, List<Word> words) =>
        words.Add(word with { Text = ByteAlphabet.Encode(word.Text) });

    private void AddMetaspace(JsonSection section)
    {
        var space = Metaspace.Read(section);
        steps.Add((word, words) => words.Add(space.Apply(word)));
        if (!space.Split)
            return;
        var pattern = CodePointPattern.Exactly(space.Replacement);
        steps.Add((word, words) => SplitBehaviors.Cut(word, pattern, SplitBehavior.MergedWithNext, false, words));
    }

    private void AddSplit(JsonSection section)
    {
        var (pattern, _) = Replacement.ReadPattern(section);
        var behavior = SplitBehaviors.Read(section, null);
        bool invert = section.Flag("invert");
        steps.Add((word, words) => SplitBehaviors.Cut(word, pattern, behavior, invert, words));
    }

    private void Cut(string pattern, SplitBehavior behavior, bool invert = false)
    {
        var translated = CodePointPattern.Translate(pattern);
        steps.Add((word, words) => SplitBehaviors.Cut(word, translated, behavior, invert, words));
    }
}
