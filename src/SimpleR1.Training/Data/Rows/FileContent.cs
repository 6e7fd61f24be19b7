using System.Text;

namespace SimpleR1.Training.Data.Rows;

/// <summary>Recognises files that are not what their name says, by their first bytes.</summary>
internal static class FileContent
{
    private const int Looked = 512; // bytes

    /// <exception cref="InvalidDataException">The file is empty or something else than its extension says.</exception>
    public static void Check(string path, string extension)
    {
        var start = Start(path);
        if (Problem(start, extension, TextFile.IsCompressed(path)) is { } problem)
            throw new InvalidDataException($"{path}: {problem}");
    }

    private static ReadOnlySpan<byte> Start(string path)
    {
        using var file = File.OpenRead(path);
        byte[] start = new byte[Looked];
        return start.AsSpan(0, file.ReadAtLeast(start, Looked, throwOnEndOfStream: false));
    }

    private static string? Problem(ReadOnlySpan<byte> start, string extension, bool isCompressed)
    {
        if (start.IsEmpty)
            return "the file is empty";
        if (start.StartsWith("version https://git-lfs"u8))
            return "this is a git-lfs pointer, not the data; get the data with: git lfs pull";
        string text = Encoding.Latin1.GetString(start).TrimStart('ï', '»', '¿', ' ', '\t', '\r', '\n');
        if (text.StartsWith("<!doctype", StringComparison.OrdinalIgnoreCase) || IsHtml(text))
            return "this is a web page (HTML), not data; download the file itself, on Hugging Face from /resolve/";

        bool isGzip = start.StartsWith((ReadOnlySpan<byte>)[0x1F, 0x8B]);
        bool isParquet = start.StartsWith("PAR1"u8);
        if (isCompressed)
            return isGzip ? null : "not compressed by gzip, as its name says; rename it without .gz";
        if (extension == ".parquet")
            return isParquet ? null : "not a Parquet file: it does not begin with PAR1";
        if (isGzip)
            return $"compressed by gzip; rename it to {extension}.gz";
        if (isParquet)
            return "a Parquet file; rename it to .parquet";
        if (start.StartsWith((ReadOnlySpan<byte>)[0xFF, 0xFE]) || start.StartsWith((ReadOnlySpan<byte>)[0xFE, 0xFF]))
            return "not UTF-8 but UTF-16; convert it with: iconv -f utf-16 -t utf-8";
        return null;
    }

    private static bool IsHtml(string text) => text.StartsWith("<html", StringComparison.OrdinalIgnoreCase);
}
