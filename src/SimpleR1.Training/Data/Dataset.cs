using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data;

/// <summary>Reads problems from JSONL and Parquet files and from the built-in generators.</summary>
public static partial class Dataset
{
    private static readonly string[] QuestionColumns = ["question", "problem", "prompt", "Question"];
    private static readonly string[] AnswerColumns = ["answer", "Answer", "solution", "target"];

    /// <summary>All problems of a source, in its order.</summary>
    /// <exception cref="FileNotFoundException">The file is not there.</exception>
    /// <exception cref="InvalidDataException">Bad JSON (with its line), a missing column (with those found), or no rows.</exception>
    public static IReadOnlyList<Problem> Load(DataSource source)
    {
        if (source.Generator is { } generator)
            return Slice(
                Generators.Make(
                    generator,
                    source.Count ?? throw new ArgumentException("a generator needs a count"),
                    source.Seed,
                    source.Options
                ),
                source,
                generator
            );
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

    /// <summary>A row and where it stands, for errors.</summary>
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
                        $"{path}:{number}: expected a JSON object such as {{\"question\": ..., \"answer\": ...}}, found {Excerpt(line)}"
                    );
                rows.Add(new($"{path}:{number}", row.ToDictionary(p => p.Key, p => p.Value)));
            }
            catch (Exception e) when (e is JsonException or ArgumentException) // the latter for a key given twice
            {
                throw new InvalidDataException(
                    $"{path}:{number}: not valid JSON: {e.Message} Found {Excerpt(line)}",
                    e
                );
            }
        }
        return rows;
    }

    private static string Excerpt(string text) => text.Length <= 80 ? text : text[..80] + "…";

    /// <summary>Which columns make the question and the answer, found once from the first row.</summary>
    private sealed class RowLayout
    {
        private readonly string path;
        private readonly DataFormat format;
        private readonly string question = "",
            answer;

        public RowLayout(DataSource source, string path, IReadOnlyDictionary<string, JsonNode?> first)
        {
            this.path = path;
            bool countdown = first.ContainsKey("nums") && first.ContainsKey("target");
            format =
                source.Format != DataFormat.Auto ? source.Format
                : countdown && source.Columns.Question is null ? DataFormat.Countdown
                : DataFormat.Auto;
            if (format == DataFormat.Countdown)
            {
                if (!countdown)
                    throw Missing("'nums' and 'target'", first);
                answer = "target";
                return;
            }
            question =
                source.Columns.Question
                ?? QuestionColumns.FirstOrDefault(first.ContainsKey)
                ?? throw Missing("a question (one of " + string.Join(", ", QuestionColumns) + ")", first);
            answer =
                source.Columns.Answer
                ?? AnswerColumns.FirstOrDefault(first.ContainsKey)
                ?? throw Missing("an answer (one of " + string.Join(", ", AnswerColumns) + ")", first);
            if (format == DataFormat.Auto)
                format =
                    first.TryGetValue(answer, out var text)
                    && text is JsonValue v
                    && v.GetValueKind() == JsonValueKind.String
                    && GsmAnswer().IsMatch(v.GetValue<string>())
                        ? DataFormat.Gsm8k
                        : DataFormat.Plain;
        }

        public Problem Problem(IReadOnlyDictionary<string, JsonNode?> row, string origin)
        {
            if (format == DataFormat.Countdown)
            {
                if (row.GetValueOrDefault("nums") is not JsonArray { Count: > 0 } numbers)
                    throw new InvalidDataException($"{origin}: 'nums' should be a list of numbers");
                string target = Text(row, "target", origin);
                return new(Generators.CountdownQuestion(numbers.Select(n => AsText(n)), target), target, row);
            }
            string asked =
                question == "" ? ""
                : question.Contains('{') ? Placeholder().Replace(question, m => Text(row, m.Groups[1].Value, origin))
                : Text(row, question, origin);
            string gold = Text(row, answer, origin);
            if (format == DataFormat.Gsm8k)
            {
                int at = gold.LastIndexOf("####", StringComparison.Ordinal);
                if (at < 0)
                    throw new InvalidDataException(
                        $"{origin}: a gsm8k answer ends in '#### n', found \"{Excerpt(gold)}\"; other layouts need format: plain"
                    );
                gold = gold[(at + 4)..].Replace(",", "").Trim();
            }
            return new(asked, gold.Trim(), row);
        }

        private string Text(IReadOnlyDictionary<string, JsonNode?> row, string column, string origin)
        {
            if (!row.TryGetValue(column, out var value))
                throw Missing($"'{column}'", row, origin);
            if (value is null)
                throw new InvalidDataException($"{origin}: column '{column}' is null");
            return AsText(value);
        }

        private InvalidDataException Missing(
            string wanted,
            IReadOnlyDictionary<string, JsonNode?> row,
            string? origin = null
        ) =>
            new(
                $"{origin ?? path}: no column for {wanted}; found {string.Join(", ", row.Keys.Select(k => $"'{k}'"))}. Name the columns in the recipe: columns: {{question: ..., answer: ...}}"
            );
    }

    /// <summary>A value as a person writes it: 145.0 is "145", text is itself.</summary>
    private static string AsText(JsonNode? value) =>
        value switch
        {
            JsonValue v when v.GetValueKind() == JsonValueKind.String => v.GetValue<string>(),
            JsonValue v
                when v.GetValueKind() == JsonValueKind.Number
                    && double.TryParse(v.ToJsonString(), CultureInfo.InvariantCulture, out double d)
                    && d == Math.Floor(d)
                    && Math.Abs(d) < 1L << 53 => ((long)d).ToString(CultureInfo.InvariantCulture),
            _ => value?.ToJsonString() ?? "",
        };

    [GeneratedRegex(@"####\s*\S[^\n]*\s*\z")]
    private static partial Regex GsmAnswer();

    [GeneratedRegex(@"\{([^{}]+)\}")]
    private static partial Regex Placeholder();
}
