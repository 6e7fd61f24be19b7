using System.Text;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Inference;

/// <summary>
/// The text of a completion as it grows. Text that may be the beginning of a stop string is held back until it is certain,
/// so that the pieces given out, put together, are the completion's text in the end.
/// </summary>
internal sealed class CompletionText(Tokenizer tokenizer, IReadOnlyList<string> stops, bool includeStop)
{
    private readonly StreamingDecoder decoder = tokenizer.Stream();
    private readonly StringBuilder given = new();
    private string held = "";

    /// <summary>All that was given out.</summary>
    public string Text => given.ToString();

    /// <summary>Adds a token's text. A vocabulary padded beyond the tokenizer's has ids without text.</summary>
    /// <param name="mayStop">Whether a stop string ends the completion here (not before its minimum length).</param>
    /// <param name="piece">The text that has become certain.</param>
    /// <returns>Whether a stop string was found; the text ends before it, or behind it when it is to be included.</returns>
    public bool Append(int token, bool mayStop, out string piece)
    {
        if (tokenizer.TokenText(token) is not null)
            held += decoder.Append(token);
        var (at, length) = mayStop ? FirstStop() : (-1, 0);
        int end = at >= 0 ? at + (includeStop ? length : 0) : held.Length - PossibleStop();
        piece = Give(held[..end]);
        held = at >= 0 ? "" : held[end..];
        return at >= 0;
    }

    /// <summary>What is still held back, when the completion ends otherwise than by a stop string.</summary>
    public string Flush()
    {
        string piece = Give(held + decoder.Flush());
        held = "";
        return piece;
    }

    private string Give(string piece)
    {
        given.Append(piece);
        return piece;
    }

    private (int At, int Length) FirstStop()
    {
        var (first, length) = (-1, 0);
        foreach (string stop in stops)
            if (held.IndexOf(stop, StringComparison.Ordinal) is >= 0 and var at && (first < 0 || at < first))
                (first, length) = (at, stop.Length);
        return (first, length);
    }

    /// <summary>Length of the longest end of the text that a stop string begins with.</summary>
    private int PossibleStop()
    {
        int longest = 0;
        foreach (string stop in stops)
            for (int n = Math.Min(held.Length, stop.Length - 1); n > longest; n--)
                if (held.AsSpan(held.Length - n).SequenceEqual(stop.AsSpan(0, n)))
                    longest = n;
        return longest;
    }
}
