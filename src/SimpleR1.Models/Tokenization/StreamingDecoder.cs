using System.Text;
using Utf8Decoder = System.Text.Decoder;

namespace SimpleR1.Models.Tokenization;

/// <summary>Turns ids into text piece by piece; the bytes of an incomplete character wait for the rest.</summary>
public sealed class StreamingDecoder
{
    private readonly Func<int, byte[]> bytesOf;
    private readonly Utf8Decoder utf8 = new UTF8Encoding(false, false).GetDecoder();
    private bool stripSpace;

    internal StreamingDecoder(Func<int, byte[]> bytesOf, bool stripLeadingSpace)
    {
        this.bytesOf = bytesOf;
        stripSpace = stripLeadingSpace;
    }

    /// <summary>The text that became certain with this id; often empty.</summary>
    public string Append(int id) => Convert(bytesOf(id), flush: false);

    /// <summary>The text that still waits, at the end (an incomplete character becomes U+FFFD).</summary>
    public string Flush() => Convert([], flush: true);

    private string Convert(ReadOnlySpan<byte> bytes, bool flush)
    {
        Span<char> characters = new char[utf8.GetCharCount(bytes, flush)];
        utf8.GetChars(bytes, characters, flush);

        if (stripSpace && characters.Length > 0)
        {
            if (characters[0] == ' ')
                characters = characters[1..];
            stripSpace = false;
        }

        return characters.ToString();
    }
}
