using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data;

/// <summary>Reads problems from JSONL and Parquet files and from the built-in generators.</summary>
public static class Dataset
{
    /// <summary>All problems of a source, in its order.</summary>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">A line is not JSON, a column is missing, or there are no rows.</exception>
    public static IReadOnlyList<Problem> Load(DataSource source)
    {
        if (source.Generator is { } generator)
        {
            int count = source.Count ?? throw new ArgumentException("a generator needs a count");
            return Slice(Generators.Make(generator, count, source.Seed, source.Options), source, generator);
        }
        string path = source.Path ?? throw new ArgumentException("a data source needs a path or a generator");
        if (!File.Exists(path))
            throw new FileNotFoundException($"data file not found: {Path.GetFullPath(path)}", path);
        var rows = Path.GetExtension(path) == ".parquet" ? ParquetRows.Read(path) : JsonRows(path);
        if (rows.Count == 0)
            throw new InvalidDataException($"{path}: no rows; a data file needs at least one");
        var used = Slice(rows, source, path);
        var layout = new RowLayout(source, path, rows[0].Row);
        return [.. used.Select(r => layout.Problem(r.Row, r.Origin))];
    }

    /// <summary>Shuffle, skip, take.</summary>
    private static IReadOnlyList<T> Slice<T>(IReadOnlyList<T> all, DataSource source, string name)
    {
        var rows = all.ToArray();
        if (source.Shuffle)
            new SplitMix64(SplitMix64.Mix(source.Seed)).Shuffle(rows.AsSpan());
        if (source.Skip >= rows.Length)
            throw new InvalidDataException(
                $"{name}: nothing is left of {rows.Length} rows after skipping {source.Skip}"
            );
        if (source.Take is { } take && (long)source.Skip + take > rows.Length)
            throw new InvalidDataException(
                $"{name}: {source.Skip} skipped and {take} taken are more than its {rows.Length} rows"
            );
        return rows[source.Skip..(source.Skip + (source.Take ?? rows.Length - source.Skip))];
    }

    /// <summary>A row with its file and line, for errors.</summary>
    internal readonly record struct DataRow(string Origin, IReadOnlyDictionary<string, JsonNode?> Row);

    private static List<DataRow> JsonRows(string path)
    {
        var rows = new List<DataRow>();
        int number = 0;
        foreach (string line in File.ReadLines(path))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line))
                continue;
            try
            {
                if (JsonNode.Parse(line) is not JsonObject row)
                    throw new InvalidDataException(
                        $"{path}:{number}: expected a JSON object such as {{\"question\": ..., \"answer\": ...}}, "
                            + $"found {Excerpt(line)}"
                    );
                rows.Add(new($"{path}:{number}", row.ToDictionary(p => p.Key, p => p.Value)));
            }
            catch (Exception e) when (e is JsonException or ArgumentException) // ArgumentException for a key given twice
            {
                throw new InvalidDataException(
                    $"{path}:{number}: not valid JSON: {e.Message} Found {Excerpt(line)}",
                    e
                );
            }
        }
        return rows;
    }

    internal static string Excerpt(string text) => text.Length <= 80 ? text : text[..80] + "…";
}
