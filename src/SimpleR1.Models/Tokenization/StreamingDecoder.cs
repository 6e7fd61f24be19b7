using System.Text;
using SimpleR1.Models.Tokenization.Decoding;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// Turns ids into text piece by piece. What later ids can still change waits: the bytes of an incomplete character, for
/// example. All pieces together are the decoded text.
/// </summary>
public sealed class StreamingDecoder
{
    private readonly Func<int, string?> tokenOf;
    private readonly IReadOnlyList<DecoderStep> steps;
    private readonly StringBuilder certain = new();
    private string known = ""; // what the context's decoded text has already of the text to come

    internal StreamingDecoder(DecoderChain chain, Func<int, string?> tokenOf)
    {
        this.tokenOf = tokenOf;
        steps = chain.Begin(text => certain.Append(text));
    }

    /// <summary>
    /// Takes the ids before the first one. What of their text still waits is not part of the text to come, unless the
    /// next ids change it.
    /// </summary>
    /// <param name="probe">Another decoder at its beginning, which is used up.</param>
    internal void Continue(IReadOnlyList<int> context, StreamingDecoder probe)
    {
        foreach (int id in context)
        {
            Append(id);
            probe.Append(id);
        }

        known = probe.Flush();
    }

    /// <summary>The text that became certain with this id; often empty.</summary>
    public string Append(int id)
    {
        if (tokenOf(id) is { } token)
        {
            if (steps.Count > 0)
                steps[0].Push(token);
            else
                certain.Append(token);
        }

        return Take();
    }

    /// <summary>The text that still waits, at the end (an incomplete character becomes U+FFFD).</summary>
    public string Flush()
    {
        foreach (var step in steps)
            step.Flush();
        return Take();
    }

    private string Take()
    {
        if (certain.Length == 0)
            return "";
        string text = certain.ToString();
        certain.Clear();
        if (known.Length == 0)
            return text;

        string before = known;
        known =
            text.Length < before.Length && before.StartsWith(text, StringComparison.Ordinal)
                ? before[text.Length..]
                : "";
        if (known.Length > 0)
            return "";
        return text.StartsWith(before, StringComparison.Ordinal) ? text[before.Length..] : text;
    }
}
