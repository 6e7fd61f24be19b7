using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using SimpleR1.Training.Data.Rows;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>How the rows of a source become questions with gold answers, found once for all of them.</summary>
internal sealed partial class RowLayout
{
    private const string Mark = "####"; // before the gold answer of GSM8K

    /// <summary>Usual names, in any case; prompt and messages may hold a conversation (TRL, verl, verifiers).</summary>
    private static readonly string[] Questions =
    [
        "question_concat", // SVAMP with both parts in one
        "question",
        "problem",
        "prompt",
        "query",
        "messages",
    ];

    private static readonly string[] Answers =
    [
        "answer",
        "reward_model.ground_truth", // verl
        "ground_truth",
        "solution",
        "target",
        "final_answer",
        "expected_answer",
        "verification_info.ground_truth", // prime-rl
        "info.answer", // verifiers
        "extra_info.answer",
    ];

    private readonly bool isGsm8k;
    private readonly bool isCountdown;
    private readonly QuestionColumn? question; // null: made from the numbers of a countdown problem
    private readonly string answer; // empty: rows have none

    /// <param name="name">What messages call the source.</param>
    public RowLayout(DataSource source, string name, IReadOnlyList<DataRow> rows)
    {
        var columns = new RowColumns(name, rows);
        isCountdown = IsCountdown(source, columns);
        question = QuestionColumn.Find(source, columns, Questions, isOptional: isCountdown);
        answer = source.Columns.Answer ?? (isCountdown ? "target" : columns.First(Answers)) ?? throw NoAnswer(columns);
        if (answer != "" && !columns.Has(answer))
            throw columns.Missing(answer);
        isGsm8k = source.Format == DataFormat.Gsm8k;
        if (source.Format == DataFormat.Auto && !isCountdown)
            isGsm8k = FindGsm8k(rows);
    }

    /// <summary>The row's problem; null when it has no question or no answer.</summary>
    /// <exception cref="InvalidDataException">A value is a list or an object where text should be.</exception>
    public Problem? Problem(DataRow row, UnusableRows unusable)
    {
        string text = Countdown(row) ?? question?.Text(row) ?? "";
        var messages = question?.Messages(row);
        if (messages is [.., { Role: "assistant" }])
            throw new InvalidDataException(
                $"{row.Origin}: column '{question!.Name}' ends with a message of the assistant; "
                    + "a prompt ends with one of the user"
            );
        if (messages?.FindLast(m => m.Role == "user") is { } last)
            text = last.Content;
        string gold = Gold(row);

        string? missing = null;
        if (answer != "" && string.IsNullOrWhiteSpace(gold))
            missing = "no answer";
        else if (question is not { IsNone: true } && string.IsNullOrWhiteSpace(text))
            missing = "no question";
        if (missing is not null)
        {
            unusable.Add(row, missing);
            return null;
        }
        return new(text, gold, row.Values.ToDictionary(e => e.Key, e => e.Value))
        {
            Messages = messages,
            Origin = row.Origin,
        };
    }

    private static bool IsCountdown(DataSource source, RowColumns columns)
    {
        bool fits = columns.Has("nums") && columns.Has("target");
        if (source.Format == DataFormat.Countdown && !fits)
            throw columns.Missing("'nums' and 'target'", "answer");
        return source.Format == DataFormat.Countdown || (source.Format == DataFormat.Auto && fits);
    }

    private static InvalidDataException NoAnswer(RowColumns columns) =>
        columns.Missing($"an answer (one of {string.Join(", ", Answers)})", "answer");

    /// <summary>The question of a countdown row without one of its own; else null.</summary>
    private string? Countdown(DataRow row)
    {
        if (!isCountdown || question is not null)
            return null;
        if (row.Values["nums"] is not JsonArray { Count: > 0 } numbers)
            throw new InvalidDataException($"{row.Origin}: 'nums' should be a list of numbers");
        return Generators.CountdownQuestion(
            Enumerable.Range(0, numbers.Count).Select(i => RowText.Column(row, $"nums.{i}", "a number")),
            RowText.Column(row, "target", "a target")
        );
    }

    /// <summary>The gold answer, unchanged; of GSM8K what follows the last mark, without the space around it.</summary>
    private string Gold(DataRow row)
    {
        if (answer == "")
            return "";
        string text = RowText.Column(row, answer, "a gold answer");
        if (!isGsm8k || string.IsNullOrWhiteSpace(text))
            return text;
        int mark = text.LastIndexOf(Mark, StringComparison.Ordinal);
        if (mark < 0)
            throw new InvalidDataException(
                $"{row.Origin}: a gsm8k answer ends in '#### n', column '{answer}' has "
                    + $"\"{JsonText.Excerpt(text)}\"; other layouts need format: plain"
            );
        return text[(mark + Mark.Length)..].Trim();
    }

    /// <summary>Whether answers end in GSM8K's mark: all of them, or none.</summary>
    private bool FindGsm8k(IReadOnlyList<DataRow> rows)
    {
        DataRow? with = null;
        DataRow? without = null;
        foreach (var row in rows)
        {
            ColumnPath.TryGet(row.Values, answer, out var value);
            if (value is not JsonValue text || !text.TryGetValue(out string? gold) || string.IsNullOrWhiteSpace(gold))
                continue;
            if (GsmEnd().IsMatch(gold))
                with ??= row;
            else
                without ??= row;
        }
        if (with is not null && without is not null)
            throw new InvalidDataException(
                $"{with.Origin}: column '{answer}' ends in '#### n', that of {without.Origin} does not. Say format: gsm8k "
                    + "(the gold answer follows the mark) or format: plain (the column is the gold answer)"
            );
        return with is not null;
    }

    [GeneratedRegex(@"####[^\n]*\s*\z")]
    private static partial Regex GsmEnd();
}
