using System.Text.Json;
using System.Text.Json.Nodes;
using Parquet;
using Parquet.Serialization;

namespace SimpleR1.Training.Data;

/// <summary>Reads Parquet files, the form in which Hugging Face publishes datasets, as rows of JSON values.</summary>
internal static class ParquetRows
{
    /// <exception cref="InvalidDataException">
    /// The file is damaged, or has a form that the reader does not support.
    /// </exception>
    public static List<Dataset.DataRow> Read(string path)
    {
        // The library is asynchronous only; the thread pool keeps a caller's synchronization context out of it.
        try
        {
            return Task.Run(() => ReadAsync(path)).GetAwaiter().GetResult();
        }
        catch (Exception e)
            when (e is not (OutOfMemoryException or InvalidDataException or UnauthorizedAccessException))
        {
            throw new InvalidDataException(
                $"{path}: can't be read as Parquet ({e.Message}); convert it to .jsonl if it opens elsewhere",
                e
            );
        }
    }

    private static async Task<List<Dataset.DataRow>> ReadAsync(string path)
    {
        var rows = new List<Dataset.DataRow>();
        await using var file = File.OpenRead(path);
        int groups;
        await using (var reader = await ParquetReader.CreateAsync(file, leaveStreamOpen: true))
            groups = reader.RowGroupCount;
        for (int group = 0; group < groups; group++)
        {
            file.Position = 0;
            var result = await ParquetSerializer.DeserializeUntypedAsync(file, null, group);
            foreach (var row in result.Data)
                rows.Add(new($"{path} row {rows.Count + 1}", row.ToDictionary(p => p.Key, p => Json(p.Value))));
        }
        return rows;
    }

    /// <summary>Numbers, text, lists and structs; anything else (dates, blobs) as JSON's own rendering.</summary>
    private static JsonNode? Json(object? value) =>
        value switch
        {
            null => null,
            string text => JsonValue.Create(text),
            double number => JsonValue.Create(number),
            float number => JsonValue.Create(number),
            bool flag => JsonValue.Create(flag),
            System.Collections.IDictionary map => new JsonObject(
                map.Cast<System.Collections.DictionaryEntry>()
                    .Select(e => KeyValuePair.Create(e.Key.ToString()!, Json(e.Value)))
            ),
            IDictionary<string, object?> map => new JsonObject(
                map.Select(e => KeyValuePair.Create(e.Key, Json(e.Value)))
            ),
            System.Collections.IEnumerable list and not byte[] => new JsonArray([.. list.Cast<object?>().Select(Json)]),
            _ => JsonSerializer.SerializeToNode(value, value.GetType()),
        };
}
