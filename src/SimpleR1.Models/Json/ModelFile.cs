using System.Text.Json;

namespace SimpleR1.Models.Json;

/// <summary>A file of a model folder, read whole; whatever is wrong with it is said with its path and line.</summary>
internal sealed class ModelFile
{
    private static readonly byte[] Utf8Mark = [0xEF, 0xBB, 0xBF];

    /// <param name="path">The file's path, or the name that messages give it.</param>
    public ModelFile(string path, byte[] bytes)
    {
        Path = path;
        Bytes = bytes.AsSpan().StartsWith(Utf8Mark) ? bytes[Utf8Mark.Length..] : bytes;
        LfsPointer.Refuse(path, Bytes);
    }

    public string Path { get; }
    public byte[] Bytes { get; }

    /// <exception cref="InvalidDataException">The file can't be read, or Git LFS holds its contents.</exception>
    public static ModelFile Read(string path)
    {
        try
        {
            return new(path, File.ReadAllBytes(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"{path}: can't be read: {e.Message}", e);
        }
    }

    /// <summary>
    /// Reads the file's JSON object. Whatever goes wrong in <paramref name="read"/> names the file.
    /// </summary>
    /// <exception cref="InvalidDataException">The file is not JSON, or not what it should be.</exception>
    /// <exception cref="NotSupportedException">The file asks for something that is not supported.</exception>
    public T Parse<T>(string kind, Func<JsonSection, T> read)
    {
        try
        {
            using var document = JsonDocument.Parse(Bytes);
            return read(new(this, document.RootElement, []));
        }
        catch (JsonException e)
        {
            string place = e.LineNumber is { } line ? $"{Path}:{line + 1}" : Path;
            throw new InvalidDataException($"{place}: not valid JSON ({kind}): {e.Message}", e);
        }
        catch (Exception e)
            when (e
                    is InvalidOperationException
                        or KeyNotFoundException
                        or FormatException
                        or OverflowException
                        or ArgumentException
            )
        {
            throw new InvalidDataException($"{Path}: not {kind}: {e.Message}", e);
        }
    }

    /// <summary>The line of a value, from 1; 0 if there is none.</summary>
    /// <param name="place">Keys (texts) and indexes (numbers) from the root to the value.</param>
    public int LineOf(IReadOnlyList<object> place)
    {
        var reader = new Utf8JsonReader(Bytes);
        if (!reader.Read() || !Find(ref reader, place))
            return 0;
        return 1 + Bytes.AsSpan(0, (int)reader.TokenStartIndex).Count((byte)'\n');
    }

    private static bool Find(ref Utf8JsonReader reader, IReadOnlyList<object> place)
    {
        foreach (object step in place)
            if (step is string key ? !FindKey(ref reader, key) : !FindIndex(ref reader, (int)step))
                return false;
        return true;
    }

    private static bool FindKey(ref Utf8JsonReader reader, string key)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
            return false;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            bool found = reader.ValueTextEquals(key);
            reader.Read();
            if (found)
                return true;
            reader.Skip();
        }

        return false;
    }

    private static bool FindIndex(ref Utf8JsonReader reader, int index)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
            return false;
        for (int i = 0; reader.Read() && reader.TokenType != JsonTokenType.EndArray; i++)
        {
            if (i == index)
                return true;
            reader.Skip();
        }

        return false;
    }
}
