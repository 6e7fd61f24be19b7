namespace SimpleR1.Training.Data.Rows;

/// <summary>Reads rows from a file of any format.</summary>
internal static class RowReader
{
    private delegate List<DataRow> Reader(string path);

    private static readonly Dictionary<string, Reader> ByExtension = new(StringComparer.OrdinalIgnoreCase)
    {
        [".jsonl"] = JsonRows.ReadLines,
        [".ndjson"] = JsonRows.ReadLines,
        [".json"] = JsonRows.ReadDocument,
        [".csv"] = CsvRows.Read,
        [".tsv"] = CsvRows.Read,
        [".parquet"] = ParquetRows.Read,
    };

    /// <summary>".jsonl, .ndjson, … (text formats also with .gz)", for messages.</summary>
    public static string Formats => string.Join(", ", ByExtension.Keys) + " (text formats also with .gz)";

    /// <summary>The extension that says a file's format, without .gz; null when no format has it.</summary>
    public static string? Extension(string path)
    {
        bool isCompressed = TextFile.IsCompressed(path);
        string extension = Path.GetExtension(isCompressed ? path[..^3] : path).ToLowerInvariant();
        return ByExtension.ContainsKey(extension) && !(isCompressed && extension == ".parquet") ? extension : null;
    }

    /// <summary>All rows of a file, in its order.</summary>
    /// <exception cref="InvalidDataException">
    /// The file is not what its name says, is damaged, or has no rows. The message names file and place.
    /// </exception>
    public static List<DataRow> Read(string path)
    {
        if (Extension(path) is not { } extension)
            throw new InvalidDataException($"{path}: its name says no format that is known: {Formats}");
        FileContent.Check(path, extension);
        var rows = Rows(path, ByExtension[extension]);
        return rows.Count > 0
            ? rows
            : throw new InvalidDataException($"{path}: no rows; a data file needs at least one");
    }

    /// <summary>Whatever goes wrong in a reader or in a library below it names the file.</summary>
    private static List<DataRow> Rows(string path, Reader read)
    {
        try
        {
            return read(path);
        }
        catch (Exception e)
            when (e is not (InvalidDataException or UnauthorizedAccessException)
                || (e is InvalidDataException && !e.Message.StartsWith(path, StringComparison.Ordinal))
            )
        {
            string format = Extension(path)![1..];
            throw new InvalidDataException(
                $"{path}: can't be read as {format} ({e.Message}); is it damaged, or incompletely downloaded?",
                e
            );
        }
    }
}
