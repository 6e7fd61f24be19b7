using System.Text.Json.Nodes;
using Parquet;
using Parquet.Schema;

namespace SimpleR1.Training.Data.Rows;

/// <summary>Reads Parquet files, the form in which Hugging Face publishes datasets.</summary>
internal static class ParquetRows
{
    private static readonly ParquetOptions Options = new() { UseBigDecimal = true, UseDateOnlyTypeForDates = true };

    /// <exception cref="InvalidDataException">A column has a type that can't be read, or does not fit the rows.</exception>
    public static List<DataRow> Read(string path) =>
        // The library is asynchronous only; the thread pool keeps a caller's synchronization context out of it.
        Task.Run(() => ReadAsync(path)).GetAwaiter().GetResult();

    private static async Task<List<DataRow>> ReadAsync(string path)
    {
        var rows = new List<DataRow>();
        await using var reader = await ParquetReader.CreateAsync(path, Options);
        for (int group = 0; group < reader.RowGroupCount; group++)
        {
            using var columns = reader.OpenRowGroupReader(group);
            await ReadGroupAsync(path, columns, reader.Schema.Fields, rows);
        }
        return rows;
    }

    private static async Task ReadGroupAsync(
        string path,
        ParquetRowGroupReader group,
        IReadOnlyList<Field> fields,
        List<DataRow> rows
    )
    {
        var columns = new List<(string Name, ParquetNode Node)>();
        foreach (var field in fields)
            columns.Add((field.Name, await ParquetNode.OpenAsync(field, group, path)));

        for (long i = 0; i < group.RowCount; i++)
        {
            var row = new JsonObject();
            foreach (var (name, node) in columns)
                row.Add(name, node.Read());
            rows.Add(new(path, $" row {rows.Count + 1}", row));
        }
        if (columns.FirstOrDefault(c => !c.Node.IsAtEnd) is { Node: not null } left)
            throw new InvalidDataException($"{path}: column '{left.Name}' has more values than the file has rows");
    }
}
