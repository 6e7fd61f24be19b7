using System.Text;

namespace SimpleR1.Models.Tokenization;

/// <summary>GPT-2's printable stand-ins for bytes: a byte-level vocabulary spells its tokens with these.</summary>
internal static class ByteAlphabet
{
    /// <summary>Character of each byte.</summary>
    public static readonly char[] Characters = Build();
    private static readonly Dictionary<char, byte> Bytes = Enumerable
        .Range(0, 256)
        .ToDictionary(b => Characters[b], b => (byte)b);

    /// <summary>A text's UTF-8 bytes as characters.</summary>
    public static string Encode(string text) =>
        string.Create(
            Encoding.UTF8.GetByteCount(text),
            text,
            (span, t) =>
            {
                byte[] bytes = Encoding.UTF8.GetBytes(t);
                for (int i = 0; i < bytes.Length; i++)
                    span[i] = Characters[bytes[i]];
            }
        );

    /// <summary>The bytes that a token's text stands for.</summary>
    public static byte[] Decode(string token) =>
        token.All(Bytes.ContainsKey) ? [.. token.Select(c => Bytes[c])] : Encoding.UTF8.GetBytes(token);

    private static char[] Build()
    {
        var characters = new char[256];
        int extra = 256;
        for (int b = 0; b < 256; b++)
        {
            bool printable = b is >= '!' and <= '~' or >= 0xA1 and <= 0xAC or >= 0xAE;
            characters[b] = printable ? (char)b : (char)extra++;
        }

        return characters;
    }
}
