using System.Text;
using System.Text.RegularExpressions;
using SimpleR1.Models.Json;
using SimpleR1.Models.Tokenization.Normalization;
using SimpleR1.Models.Tokenization.Patterns;
using SimpleR1.Models.Tokenization.Splitting;

namespace SimpleR1.Models.Tokenization;

/// <summary>A token that is found in a text before anything else happens to it.</summary>
internal sealed record AddedToken(int Id, string Content)
{
    /// <summary>It counts only where no letter or digit is next to it.</summary>
    public bool SingleWord { get; init; }

    /// <summary>It takes the white space before it.</summary>
    public bool StripLeft { get; init; }

    /// <summary>It takes the white space after it.</summary>
    public bool StripRight { get; init; }

    /// <summary>It is looked for in the normalized text, in its own normalized form.</summary>
    public bool Normalized { get; init; }

    /// <summary>It steers the model, and is no part of the text.</summary>
    public bool Special { get; init; }

    public static AddedToken Read(JsonSection section)
    {
        var token = new AddedToken(section.Whole("id"), section.Text("content"))
        {
            SingleWord = section.Flag("single_word", false),
            StripLeft = section.Flag("lstrip", false),
            StripRight = section.Flag("rstrip", false),
            Special = section.Flag("special", false),
            Normalized = section.Flag("normalized", !section.Flag("special", false)),
        };
        section.RefuseUnread();
        if (token.Content.Length == 0)
            throw section.Problem("content", "expected a text, found an empty one");
        return token.Id >= 0 ? token : throw section.Problem("id", $"expected 0 or more, found {token.Id}");
    }
}

/// <summary>
/// Finds added tokens: first those that are not normalized in the text as it is, then the others in the normalized text
/// between them.
/// </summary>
internal sealed class AddedTokens
{
    private readonly Normalizer normalizer;
    private readonly Finder plain;
    private readonly Finder normalized;

    public AddedTokens(IReadOnlyList<AddedToken> tokens, Normalizer normalizer)
    {
        this.normalizer = normalizer;
        plain = new(tokens.Where(t => !t.Normalized).Select(t => (t.Content, t)));
        normalized = new(tokens.Where(t => t.Normalized).Select(t => (normalizer.Apply(t.Content), t)));
    }

    /// <summary>A text as added tokens and the normalized words between them, none of these empty.</summary>
    public IEnumerable<(Word Word, AddedToken? Token)> Split(string text)
    {
        foreach (var (start, end, token) in plain.Split(text))
        {
            if (token is not null)
            {
                yield return (default, token);
                continue;
            }

            string piece = normalizer.Apply(text[start..end]);
            foreach (var (from, to, inner) in normalized.Split(piece))
                yield return (new(piece[from..to], start == 0 && from == 0), inner);
        }
    }

    /// <summary>Finds some tokens in a text, the longest of those that begin at the same place.</summary>
    private sealed class Finder
    {
        private readonly Dictionary<string, AddedToken> tokens = [];
        private readonly Regex? pattern;

        public Finder(IEnumerable<(string Text, AddedToken Token)> texts)
        {
            foreach (var (text, token) in texts.Where(t => t.Text.Length > 0))
                tokens[text] = token;
            if (tokens.Count == 0)
                return;
            var longestFirst = tokens.Keys.OrderByDescending(text => text.Length).Select(Regex.Escape);
            pattern = new(string.Join('|', longestFirst), RegexOptions.Compiled | RegexOptions.CultureInvariant);
        }

        public List<(int Start, int End, AddedToken? Token)> Split(string text)
        {
            var parts = new List<(int Start, int End, AddedToken? Token)>();
            int done = 0;
            if (pattern is not null)
                foreach (var match in pattern.EnumerateMatches(text))
                {
                    int start = match.Index;
                    int end = start + match.Length;
                    var token = tokens[text[start..end]];
                    if (start < done || (token.SingleWord && !StandsAlone(text, start, end)))
                        continue;
                    if (token.StripLeft)
                        start = Math.Max(done, text.AsSpan(0, start).TrimEnd().Length);
                    if (token.StripRight)
                        end = text.Length - text.AsSpan(end).TrimStart().Length;

                    if (start > done)
                        parts.Add((done, start, null));
                    parts.Add((start, end, token));
                    done = end;
                }

            if (done < text.Length)
                parts.Add((done, text.Length, null));
            return parts;
        }

        private static bool StandsAlone(string text, int start, int end)
        {
            bool before = Rune.DecodeLastFromUtf16(text.AsSpan(0, start), out var left, out _) == 0 && IsWord(left);
            bool after = Rune.DecodeFromUtf16(text.AsSpan(end), out var right, out _) == 0 && IsWord(right);
            return !before && !after;
        }

        /// <summary>Joiners are parts of words here, as in the reference.</summary>
        private static bool IsWord(Rune rune) => UnicodeProperties.IsWord(rune) || rune.Value is 0x200C or 0x200D;
    }
}
