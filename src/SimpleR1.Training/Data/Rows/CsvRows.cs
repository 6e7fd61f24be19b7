using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using CsvHelper;
using CsvHelper.Configuration;

namespace SimpleR1.Training.Data.Rows;

/// <summary>Reads comma-, semicolon- and tab-separated text whose first record names the columns.</summary>
internal static class CsvRows
{
    /// <exception cref="InvalidDataException">
    /// A record has more or fewer values than the header, a quote is not closed, or a name comes twice.
    /// </exception>
    public static List<DataRow> Read(string path)
    {
        string text = Encoding.UTF8.GetString(TextFile.Read(path).Span);
        using var parser = new CsvParser(new StringReader(text), Format(path, text));
        if (!parser.Read())
            return [];
        string[] names = [.. parser.Record!.Select(name => name.Trim())];
        CheckNames(path, names);

        var rows = new List<DataRow>();
        for (int line = parser.RawRow + 1; parser.Read(); line = parser.RawRow + 1)
            rows.Add(Row(path, $":{line}", names, parser.Record!));
        return rows;
    }

    private static CsvConfiguration Format(string path, string text) =>
        new(CultureInfo.InvariantCulture)
        {
            Delimiter = RowReader.Extension(path) == ".tsv" ? "\t" : Delimiter(text),
            BadDataFound = bad =>
                throw new InvalidDataException(
                    $"{path}:{bad.Context.Parser!.RawRow}: a quote in the middle of a value or not closed: "
                        + $"{JsonText.Excerpt(bad.RawRecord.Trim())}; write \"\" for a quote in a quoted value"
                ),
        };

    /// <summary>The separator that comes most often in the first line, outside of quotes.</summary>
    private static string Delimiter(string text)
    {
        var counts = new Dictionary<char, int>
        {
            [','] = 0,
            [';'] = 0,
            ['\t'] = 0,
            ['|'] = 0,
        };
        bool isQuoted = false;
        foreach (char c in text)
        {
            if (c == '\n' && !isQuoted)
                break;
            if (c == '"')
                isQuoted = !isQuoted;
            else if (!isQuoted && counts.ContainsKey(c))
                counts[c]++;
        }
        return counts.MaxBy(c => c.Value).Key.ToString(); // a comma when there is none
    }

    private static void CheckNames(string path, string[] names)
    {
        if (names.GroupBy(n => n).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new InvalidDataException(
                $"{path}:1: the column '{twice.Key}' is named twice; the first line names each column once"
            );
    }

    private static DataRow Row(string path, string place, string[] names, string[] values)
    {
        if (values.Length != names.Length)
            throw new InvalidDataException(
                $"{path}{place}: {values.Length} values for {names.Length} columns "
                    + $"({JsonText.Excerpt(string.Join(", ", names))}); quote values that hold the separator or line breaks"
            );
        var row = new JsonObject();
        for (int i = 0; i < names.Length; i++)
            row.Add(names[i], JsonValue.Create(values[i]));
        return new(path, place, row);
    }
}
