using System.Text;

namespace SimpleR1.Models.Tokenization;

/// <summary>GPT-2's printable stand-ins for bytes: a byte-level vocabulary spells its tokens with these.</summary>
internal static class ByteAlphabet
{
    /// <summary>Character of each byte.</summary>
    public static readonly char[] Characters = Build();
    private static readonly short[] Bytes = Invert(); // by character, -1 where it stands for none

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

    /// <summary>The bytes that a token's text stands for: its own if some character stands for none.</summary>
    public static byte[] Decode(string token)
    {
        var bytes = new byte[token.Length];
        for (int i = 0; i < bytes.Length; i++)
        {
            int value = token[i] < Bytes.Length ? Bytes[token[i]] : -1;
            if (value < 0)
                return Encoding.UTF8.GetBytes(token);
            bytes[i] = (byte)value;
        }

        return bytes;
    }

    private static short[] Invert()
    {
        short[] bytes = [.. Enumerable.Repeat((short)-1, Characters.Max() + 1)];
        for (int b = 0; b < 256; b++)
            bytes[Characters[b]] = (short)b;
        return bytes;
    }

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
