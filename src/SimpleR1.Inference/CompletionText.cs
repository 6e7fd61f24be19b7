using System.Text;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Inference;

/// <summary>
/// The text of a completion as it grows. Text that may be the beginning of a stop string is held back until it is
/// certain, so that the pieces handed out, put together, are the completion's text in the end.
/// </summary>
internal sealed class CompletionText(Tokenizer tokenizer, GenerationRequest request)
{
    private readonly IReadOnlyList<string> stops = request.Sampling.StopStrings;
    private readonly bool includeStop = request.Sampling.IncludeStopString;
    private readonly StreamingDecoder decoder = tokenizer.Stream(
        request.Sampling.KeepSpecialTokens,
        request.PromptTokens
    );
    private readonly StringBuilder certain = new();
    private string held = "";

    /// <summary>All text that was handed out.</summary>
    public string Text => certain.ToString();

    /// <summary>The text of a sample that has some tokens already; they count as handed out.</summary>
    public static CompletionText Continue(Tokenizer tokenizer, GenerationRequest request, int[] tokens)
    {
        var text = new CompletionText(tokenizer, request);
        for (int i = 0; i < tokens.Length; i++)
            text.Append(tokens[i], mayStop: i + 1 >= request.Sampling.MinTokens, out _);
        return text;
    }

    /// <summary>Adds a token's text. A vocabulary padded beyond the tokenizer's has ids without text.</summary>
    /// <param name="mayStop">Whether a stop string ends the completion here (not before its minimum length).</param>
    /// <param name="piece">The text that has become certain.</param>
    /// <returns>
    /// Whether a stop string was found. The text ends before it, or after it if it is to be included.
    /// </returns>
    public bool Append(int token, bool mayStop, out string piece)
    {
        if (tokenizer.TokenText(token) is not null)
            held += decoder.Append(token);

        int stopLength = 0;
        int stop = mayStop ? FirstStop(out stopLength) : -1;
        if (stop >= 0)
        {
            piece = HandOut(held[..(includeStop ? stop + stopLength : stop)]);
            held = "";
            return true;
        }

        int end = held.Length - PossibleStop();
        piece = HandOut(held[..end]);
        held = held[end..];
        return false;
    }

    /// <summary>Ends the text with an ending id's own text, which is there even if special tokens are left out.</summary>
    public string FlushWith(int stopToken)
    {
        if (tokenizer.IsSpecial(stopToken) && !request.Sampling.KeepSpecialTokens)
        {
            string rest = Flush();
            return rest + HandOut(tokenizer.TokenText(stopToken)!);
        }

        bool ended = Append(stopToken, mayStop: true, out string piece);
        return ended ? piece : piece + Flush();
    }

    /// <summary>
    /// Hands out what is still held back, when something other than a stop string ends the completion.
    /// </summary>
    public string Flush()
    {
        string piece = HandOut(held + decoder.Flush());
        held = "";
        return piece;
    }

    private string HandOut(string piece)
    {
        certain.Append(piece);
        return piece;
    }

    /// <summary>Index of the first stop string in the held text; -1 if there is none.</summary>
    private int FirstStop(out int length)
    {
        int first = -1;
        length = 0;
        foreach (string stop in stops)
        {
            int index = held.IndexOf(stop, StringComparison.Ordinal);
            if (index < 0 || (first >= 0 && index >= first))
                continue;
            first = index;
            length = stop.Length;
        }

        return first;
    }

    /// <summary>Length of the longest end of the held text that a stop string begins with.</summary>
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
