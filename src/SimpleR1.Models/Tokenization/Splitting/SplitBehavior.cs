using SimpleR1.Models.Json;
using SimpleR1.Models.Tokenization.Patterns;

namespace SimpleR1.Models.Tokenization.Splitting;

/// <summary>What becomes of the matches at which a text is cut.</summary>
internal enum SplitBehavior
{
    /// <summary>Each match is a word.</summary>
    Isolated,

    /// <summary>Matches are left out.</summary>
    Removed,

    /// <summary>Matches side by side are one word.</summary>
    Contiguous,
    MergedWithPrevious,
    MergedWithNext,
}

/// <summary>Cuts words at the matches of a pattern.</summary>
internal static class SplitBehaviors
{
    /// <summary>Reads the key <c>behavior</c>.</summary>
    /// <param name="otherwise">Where the key is absent; null requires it.</param>
    public static SplitBehavior Read(JsonSection section, SplitBehavior? otherwise)
    {
        if (otherwise is { } absent && !section.Has("behavior"))
            return absent;
        string name = section.Text("behavior");
        return Enum.TryParse<SplitBehavior>(name, out var behavior) && behavior.ToString() == name
            ? behavior
            : throw section.Unsupported(
                "behavior",
                $"'{name}' (there are {string.Join(", ", Enum.GetNames<SplitBehavior>())})"
            );
    }

    /// <param name="invert">What lies between matches counts as the matches.</param>
    public static void Cut(Word word, CodePointPattern pattern, SplitBehavior behavior, bool invert, List<Word> words)
    {
        if (behavior == SplitBehavior.Isolated)
        {
            Isolate(word, pattern, words);
            return;
        }

        var parts = Parts(word.Text, pattern, invert);
        if (behavior == SplitBehavior.MergedWithNext)
            parts.Reverse();
        var merged = new List<(int Start, int End)>();
        bool previousMatches = false;
        foreach (var (start, end, matches) in parts)
        {
            bool joins = behavior switch
            {
                SplitBehavior.Contiguous => matches == previousMatches,
                SplitBehavior.Removed => false,
                _ => matches && !previousMatches,
            };
            previousMatches = matches;
            if (joins && merged.Count > 0)
                merged[^1] = (Math.Min(merged[^1].Start, start), Math.Max(merged[^1].End, end));
            else if (behavior != SplitBehavior.Removed || !matches)
                merged.Add((start, end));
        }

        if (behavior == SplitBehavior.MergedWithNext)
            merged.Reverse();
        foreach (var (start, end) in merged)
            Add(word, start, end, words);
    }

    /// <summary>Every match is a word, and so is what lies between two: inverting changes nothing.</summary>
    private static void Isolate(Word word, CodePointPattern pattern, List<Word> words)
    {
        string text = word.Text;
        int done = 0;
        foreach (var match in pattern.For(text).EnumerateMatches(text))
        {
            int start = match.Index;
            if (match.Length == 0 && start < text.Length && char.IsLowSurrogate(text[start]))
                continue; // an empty match never cuts a character
            Add(word, done, start, words);
            Add(word, start, start + match.Length, words);
            done = start + match.Length;
        }

        Add(word, done, text.Length, words);
    }

    /// <summary>The text from left to right, as matches and what lies between.</summary>
    private static List<(int Start, int End, bool Matches)> Parts(string text, CodePointPattern pattern, bool invert)
    {
        var parts = new List<(int Start, int End, bool Matches)>();
        int done = 0;
        foreach (var (start, end) in pattern.Matches(text))
        {
            if (start > done)
                parts.Add((done, start, invert));
            parts.Add((start, end, !invert));
            done = end;
        }

        if (done < text.Length)
            parts.Add((done, text.Length, invert));
        return parts;
    }

    private static void Add(Word word, int start, int end, List<Word> words)
    {
        if (end <= start)
            return;
        bool isWhole = start == 0 && end == word.Text.Length;
        words.Add(isWhole ? word : new(word.Text[start..end], word.AtStart && start == 0));
    }
}
