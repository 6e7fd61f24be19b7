using System.Text;
using System.Text.Unicode;
using ICSharpCode.SharpZipLib.GZip;

namespace SimpleR1.Training.Data.Rows;

/// <summary>The bytes of a text file: decompressed, without a byte order mark, checked to be UTF-8.</summary>
internal static class TextFile
{
    public static bool IsCompressed(string path) => path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase);

    /// <exception cref="InvalidDataException">The text is not UTF-8; the message says in which line.</exception>
    public static ReadOnlyMemory<byte> Read(string path)
    {
        ReadOnlyMemory<byte> bytes = Bytes(path);
        if (bytes.Span.StartsWith(Encoding.UTF8.Preamble))
            bytes = bytes[Encoding.UTF8.Preamble.Length..];
        if (!Utf8.IsValid(bytes.Span))
            throw NotUtf8(path, bytes.Span);
        return bytes;
    }

    private static byte[] Bytes(string path)
    {
        if (!IsCompressed(path))
            return File.ReadAllBytes(path);
        using var file = new GZipInputStream(File.OpenRead(path)); // .NET's own does not see that a file is cut short
        using var content = new MemoryStream();
        file.CopyTo(content);
        return content.ToArray();
    }

    private static InvalidDataException NotUtf8(string path, ReadOnlySpan<byte> bytes)
    {
        int at = 0;
        while (Rune.DecodeFromUtf8(bytes[at..], out _, out int length) == System.Buffers.OperationStatus.Done)
            at += length;
        int line = bytes[..at].Count((byte)'\n') + 1;
        int lineStart = bytes[..at].LastIndexOf((byte)'\n') + 1;
        string before = Encoding.UTF8.GetString(bytes[Math.Max(lineStart, at - 20)..at]);
        return new(
            $"{path}:{line}: not UTF-8: byte 0x{bytes[at]:X2} after \"{before}\"; convert the file, "
                + "from Latin-1 with: iconv -f latin1 -t utf-8"
        );
    }
}
