using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// What a <c>tokenizer.json</c> does to text before byte-pair encoding: its normalizer and its pre-tokenizer.
/// </summary>
internal sealed class TextSplitter
{
    private const RegexOptions Options = RegexOptions.Compiled | RegexOptions.CultureInvariant;
    private const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    private readonly List<Func<string, string>> normalizers = [];
    private readonly List<Func<string, IEnumerable<string>>> splits = [];

    public TextSplitter(JsonElement normalizer, JsonElement preTokenizer)
    {
        AddNormalizer(normalizer);
        AddSplit(preTokenizer);
    }

    /// <summary>The vocabulary is spelt in bytes.</summary>
    public bool ByteLevel { get; private set; }

    /// <summary>The words that are encoded one by one.</summary>
    public IEnumerable<string> Split(string text)
    {
        foreach (var normalize in normalizers)
            text = normalize(text);

        IEnumerable<string> words = text.Length == 0 ? [] : [text];
        foreach (var split in splits)
            words = words.SelectMany(split);
        return words;
    }

    private void AddNormalizer(JsonElement e)
    {
        if (e.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            return;
        switch (e.GetProperty("type").GetString())
        {
            case "Sequence":
                foreach (var part in e.GetProperty("normalizers").EnumerateArray())
                    AddNormalizer(part);
                break;
            case "NFC":
                normalizers.Add(Nfc.Normalize);
                break;
            case "Prepend":
            {
                string prefix = e.GetProperty("prepend").GetString()!;
                normalizers.Add(t => t.Length == 0 ? t : prefix + t);
                break;
            }
            case "Replace" when e.GetProperty("pattern").TryGetProperty("String", out var pattern):
            {
                string old = pattern.GetString()!;
                string replacement = e.GetProperty("content").GetString()!;
                normalizers.Add(t => t.Replace(old, replacement, StringComparison.Ordinal));
                break;
            }
            case var other:
                throw new NotSupportedException(
                    $"tokenizer.json: normalizer '{other}' is not supported (NFC, Prepend, Replace and Sequence are)"
                );
        }
    }

    private void AddSplit(JsonElement e)
    {
        if (e.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            return;
        switch (e.GetProperty("type").GetString())
        {
            case "Sequence":
                foreach (var part in e.GetProperty("pretokenizers").EnumerateArray())
                    AddSplit(part);
                break;
            case "ByteLevel":
                AddByteLevel(e);
                break;
            case "Split" when !Flag(e, "invert") && e.GetProperty("behavior").GetString() == "Isolated":
                AddPattern(PatternOf(e.GetProperty("pattern")));
                break;
            case "Digits":
                AddPattern(Flag(e, "individual_digits") ? @"\p{N}" : @"\p{N}+");
                break;
            case var other:
                string behavior = other == "Split" ? "with this behavior " : "";
                throw new NotSupportedException(
                    $"tokenizer.json: pre-tokenizer '{other}' {behavior}is not supported "
                        + "(ByteLevel, Split/Isolated, Digits and Sequence are)"
                );
        }
    }

    private void AddByteLevel(JsonElement e)
    {
        ByteLevel = true;
        if (Flag(e, "add_prefix_space"))
            splits.Add(w => [w.StartsWith(' ') ? w : " " + w]);
        if (!e.TryGetProperty("use_regex", out var regex) || regex.GetBoolean())
            AddPattern(Gpt2Pattern);
    }

    private static string PatternOf(JsonElement pattern) =>
        pattern.TryGetProperty("Regex", out var regex)
            ? regex.GetString()!
            : Regex.Escape(pattern.GetProperty("String").GetString()!);

    private static bool Flag(JsonElement e, string name) =>
        e.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;

    /// <summary>Cuts around every match; what lies between matches stays as it is.</summary>
    private void AddPattern(string pattern)
    {
        var regex = new Regex(pattern, Options);
        splits.Add(word => Cut(word, regex));
    }

    private static IEnumerable<string> Cut(string word, Regex regex)
    {
        int done = 0;
        foreach (var match in Matches(regex, AstralProxy(word)))
        {
            int start = PastPair(word, match.Start.Value);
            int end = PastPair(word, match.End.Value);
            if (start > done)
                yield return word[done..start];

            int first = Math.Max(done, start);
            if (end > first)
                yield return word[first..end];
            done = Math.Max(done, end);
        }

        if (done < word.Length)
            yield return word[done..];
    }

    /// <summary>All matches as ranges; the regex's own enumerator can't live across a yield.</summary>
    private static List<Range> Matches(Regex regex, string text)
    {
        var ranges = new List<Range>();
        foreach (var match in regex.EnumerateMatches(text))
            ranges.Add(match.Index..(match.Index + match.Length));
        return ranges;
    }

    /// <summary>An index that would cut a surrogate pair moves past it.</summary>
    private static int PastPair(string text, int index)
    {
        bool cutsPair =
            index > 0
            && index < text.Length
            && char.IsLowSurrogate(text[index])
            && char.IsHighSurrogate(text[index - 1]);
        return cutsPair ? index + 1 : index;
    }

    /// <summary>
    /// A string of the same length whose letters and digits beyond U+FFFF are two units of another letter or digit:
    /// .NET's regex classes look at UTF-16 units, so that \p{L} and \p{N} would miss them. Matches are then cut out of
    /// the original.
    /// </summary>
    private static string AstralProxy(string text)
    {
        char[]? proxy = null;
        for (int i = 0; i + 1 < text.Length; i++)
        {
            if (!char.IsSurrogatePair(text[i], text[i + 1]))
                continue;
            char substitute = CharUnicodeInfo.GetUnicodeCategory(text, i) switch
            {
                <= UnicodeCategory.OtherLetter => 'ʟ',
                UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber =>
                    '١',
                _ => '\0',
            };
            if (substitute != '\0')
            {
                // The second unit of a digit is a digit too: a pattern that takes one digit at a time matches each unit, and
                // PastPair joins them.
                proxy ??= text.ToCharArray();
                proxy[i] = substitute;
                proxy[i + 1] = substitute;
            }

            i++;
        }

        return proxy is null ? text : new string(proxy);
    }
}
