using SimpleR1.Models.Prompts;
using SimpleR1.Training.Data.Rows;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>How the rows of a source become texts to imitate, character by character as the file has them.</summary>
internal sealed class TextLayout
{
    /// <summary>Columns with the whole of a conversation.</summary>
    private static readonly string[] Conversations = ["messages", "conversations"];

    private static readonly string[] Questions = ["question", "problem", "prompt", "query"];

    private static readonly string[] Texts = ["completion", "response", "output", "solution", "answer", "target"];

    private readonly QuestionColumn? question; // null: the text column has all
    private readonly string text;

    /// <param name="name">What messages call the source.</param>
    public TextLayout(DataSource source, string name, IReadOnlyList<DataRow> rows)
    {
        var columns = new RowColumns(name, rows);
        bool isNamed = source.Columns.Question is not null || source.Columns.Answer is not null;
        string? pair = columns.First(Questions) is null ? null : columns.First(Texts);
        if (!isNamed && pair is null && columns.First([.. Conversations, "text"]) is { } whole)
        {
            text = whole;
            return;
        }
        question = QuestionColumn.Find(source, columns, Questions, isOptional: false);
        text =
            source.Columns.Answer
            ?? columns.First(Texts)
            ?? throw columns.Missing($"a text to learn (one of {string.Join(", ", Texts)}, text)", "answer");
        if (!columns.Has(text))
            throw columns.Missing(text);
    }

    /// <summary>The row's text; null when it has none.</summary>
    /// <exception cref="InvalidDataException">A value is a list or an object where text should be.</exception>
    public Demonstration? Demonstration(DataRow row, UnusableRows unusable)
    {
        var learnt = Messages(row);
        var asked = question?.Messages(row);
        string prompt = question?.Text(row) ?? "";
        string completion = learnt is null ? RowText.Column(row, text, "a text to learn") : learnt[^1].Content;
        if (learnt is not null && learnt[^1].Role != "assistant")
            throw new InvalidDataException(
                $"{row.Origin}: column '{text}' ends with a message of role '{learnt[^1].Role}'; "
                    + "a conversation to learn from ends with one of the assistant"
            );

        string? missing = null;
        if (completion.Length == 0)
            missing = "no text to learn";
        else if (question is { IsNone: false } && asked is null && string.IsNullOrWhiteSpace(prompt))
            missing = "no question";
        if (missing is not null)
        {
            unusable.Add(row, missing);
            return null;
        }
        return new(prompt, completion)
        {
            Messages = Conversation(prompt, asked, completion, learnt),
            Origin = row.Origin,
        };
    }

    private List<ChatMessage>? Messages(DataRow row) =>
        ColumnPath.TryGet(row.Values, text, out var value) && MessageColumn.Holds(value)
            ? MessageColumn.Read(row, text)
            : null;

    /// <summary>The whole conversation; null when neither part is one.</summary>
    private List<ChatMessage>? Conversation(
        string prompt,
        List<ChatMessage>? asked,
        string completion,
        List<ChatMessage>? learnt
    )
    {
        if (asked is null && learnt is null)
            return null;
        if (asked is null && question is { IsNone: false })
            asked = [new("user", prompt)];
        return [.. asked ?? [], .. learnt ?? [new("assistant", completion)]];
    }
}
