using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data;

/// <summary>The columns that make the question and the answer, found once from the first row.</summary>
internal sealed partial class RowLayout
{
    private static readonly string[] QuestionColumns = ["question", "problem", "prompt", "Question"];
    private static readonly string[] AnswerColumns = ["answer", "Answer", "solution", "target"];

    private readonly string path;
    private readonly DataFormat format;
    private readonly string question = "";
    private readonly string answer;

    public RowLayout(DataSource source, string path, IReadOnlyDictionary<string, JsonNode?> first)
    {
        this.path = path;
        bool countdown = first.ContainsKey("nums") && first.ContainsKey("target");
        format = source.Format;
        if (format == DataFormat.Auto && countdown && source.Columns.Question is null)
            format = DataFormat.Countdown;
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
            format = IsGsm8k(first.GetValueOrDefault(answer)) ? DataFormat.Gsm8k : DataFormat.Plain;
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
        string gold = Text(row, answer, origin);
        if (format == DataFormat.Gsm8k)
            gold = Gsm8kAnswer(gold, origin);
        return new(Question(row, origin), gold.Trim(), row);
    }

    private string Question(IReadOnlyDictionary<string, JsonNode?> row, string origin)
    {
        if (question == "")
            return "";
        return question.Contains('{')
            ? Placeholder().Replace(question, m => Text(row, m.Groups[1].Value, origin))
            : Text(row, question, origin);
    }

    private static bool IsGsm8k(JsonNode? value) =>
        value is JsonValue text
        && text.GetValueKind() == JsonValueKind.String
        && GsmAnswer().IsMatch(text.GetValue<string>());

    private static string Gsm8kAnswer(string gold, string origin)
    {
        int mark = gold.LastIndexOf("####", StringComparison.Ordinal);
        if (mark < 0)
            throw new InvalidDataException(
                $"{origin}: a gsm8k answer ends in '#### n', found \"{Dataset.Excerpt(gold)}\"; "
                    + "other layouts need format: plain"
            );
        return gold[(mark + 4)..].Replace(",", "");
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
            $"{origin ?? path}: no column for {wanted}; found {string.Join(", ", row.Keys.Select(k => $"'{k}'"))}. "
                + "Name the columns in the recipe: columns: {question: ..., answer: ...}"
        );

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
