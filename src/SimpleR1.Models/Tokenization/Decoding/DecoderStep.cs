using System.Text;
using SimpleR1.Models.Tokenization.Normalization;
using Utf8Decoder = System.Text.Decoder;

namespace SimpleR1.Models.Tokenization.Decoding;

/// <summary>
/// One step from tokens to text. It takes texts one by one and hands on what has become certain, so that what it has
/// handed on in the end is what it would have made of all texts at once.
/// </summary>
/// <param name="output">The next step, or the end.</param>
internal abstract class DecoderStep(Action<string> output)
{
    public abstract void Push(string text);

    /// <summary>Hands on what still waits, at the end.</summary>
    public virtual void Flush() { }

    protected void Emit(string text) => output(text);
}

/// <summary>Changes each text by itself.</summary>
internal sealed class MapStep(Func<string, string> map, Action<string> output) : DecoderStep(output)
{
    public override void Push(string text) => Emit(map(text));
}

/// <summary>Bytes by their stand-ins. An incomplete character waits; what is not UTF-8 becomes U+FFFD.</summary>
internal sealed class ByteLevelStep(Action<string> output) : DecoderStep(output)
{
    private readonly Utf8Decoder utf8 = new UTF8Encoding(false, false).GetDecoder();

    public override void Push(string text) => Convert(ByteAlphabet.Decode(text), flush: false);

    public override void Flush() => Convert([], flush: true);

    private void Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        var characters = new char[utf8.GetCharCount(bytes, flush)];
        utf8.GetChars(bytes, characters, flush);
        if (characters.Length > 0)
            Emit(new string(characters));
    }
}

/// <summary>
/// Tokens <c>&lt;0xNN&gt;</c> side by side are bytes: a text if they are UTF-8 together, otherwise each is a U+FFFD. So
/// nothing of them is certain before another token comes.
/// </summary>
internal sealed class ByteFallbackStep(Action<string> output) : DecoderStep(output)
{
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);
    private readonly List<byte> waiting = [];

    public override void Push(string text)
    {
        if (ByteOf(text) is { } value)
        {
            waiting.Add(value);
            return;
        }

        Flush();
        Emit(text);
    }

    public override void Flush()
    {
        if (waiting.Count == 0)
            return;
        try
        {
            Emit(Strict.GetString([.. waiting]));
        }
        catch (ArgumentException)
        {
            for (int i = 0; i < waiting.Count; i++)
                Emit("\uFFFD");
        }
        waiting.Clear();
    }

    /// <summary>The byte that a token stands for; null for other tokens.</summary>
    public static byte? ByteOf(string token)
    {
        bool hasForm = token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>';
        return hasForm && char.IsAsciiHexDigit(token[3]) && char.IsAsciiHexDigit(token[4])
            ? Convert.ToByte(token[3..5], 16)
            : null;
    }
}

/// <summary>Changes only the first text, and each of the others otherwise.</summary>
internal sealed class FirstStep(Func<string, string> first, Func<string, string> others, Action<string> output)
    : DecoderStep(output)
{
    private bool begun;

    public override void Push(string text)
    {
        Emit(begun ? others(text) : first(text));
        begun = true;
    }
}

/// <summary>Changes only the last text, and each of the others otherwise; so the newest one waits.</summary>
internal sealed class LastStep(Func<string, string> last, Func<string, string> others, Action<string> output)
    : DecoderStep(output)
{
    private string? waiting;

    public override void Push(string text)
    {
        if (waiting is not null)
            Emit(others(waiting));
        waiting = text;
    }

    public override void Flush()
    {
        if (waiting is not null)
            Emit(last(waiting));
        waiting = null;
    }
}

/// <summary>Takes a character away from both ends of the whole text, at most so many times.</summary>
internal sealed class StripStep(char content, int start, int stop, Action<string> output) : DecoderStep(output)
{
    private readonly StringBuilder waiting = new(); // of the characters that may be the text's end
    private int left = start;

    public override void Push(string text)
    {
        int begin = 0;
        while (left > 0 && begin < text.Length && text[begin] == content)
        {
            begin++;
            left--;
        }

        if (begin < text.Length)
            left = 0;
        waiting.Append(text, begin, text.Length - begin);

        int end = waiting.Length;
        while (end > 0 && waiting.Length - end < stop && waiting[end - 1] == content)
            end--;
        Emit(waiting.ToString(0, end));
        waiting.Remove(0, end);
    }

    public override void Flush() => waiting.Clear();
}

/// <summary>Replaces within the whole text: what may be the beginning of a match waits.</summary>
internal sealed class ReplaceStep(Replacement replacement, Action<string> output) : DecoderStep(output)
{
    private string waiting = "";

    public override void Push(string text)
    {
        waiting += text;
        if (replacement.Literal is not { } literal)
            return; // any later text may change what a pattern matches

        for (int i; (i = waiting.IndexOf(literal, StringComparison.Ordinal)) >= 0; )
        {
            Emit(waiting[..i] + replacement.Content);
            waiting = waiting[(i + literal.Length)..];
        }

        int held = Math.Min(waiting.Length, literal.Length - 1);
        while (held > 0 && !waiting.AsSpan(waiting.Length - held).SequenceEqual(literal.AsSpan(0, held)))
            held--;
        Emit(waiting[..^held]);
        waiting = waiting[^held..];
    }

    public override void Flush()
    {
        Emit(replacement.Apply(waiting));
        waiting = "";
    }
}
