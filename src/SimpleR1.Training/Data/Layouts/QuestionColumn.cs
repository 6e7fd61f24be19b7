using SimpleR1.Models.Prompts;
using SimpleR1.Training.Data.Rows;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>Where the question of a row is: a column of text or messages, or a template around several columns.</summary>
internal sealed class QuestionColumn
{
    private const string Role = "a question";

    private readonly bool isTemplate;

    private QuestionColumn(string name, RowColumns columns)
    {
        Name = name;
        if (IsNone || columns.Has(name))
            return;
        isTemplate = name.Contains('{');
        if (!isTemplate)
            throw columns.Missing(name);
        foreach (string column in RowText.Placeholders(name))
            if (!columns.Has(column))
                throw columns.Missing(column);
    }

    public string Name { get; }

    /// <summary>The recipe says that rows have no question.</summary>
    public bool IsNone => Name == "";

    /// <param name="usual">Names to try when the recipe names none.</param>
    /// <param name="isOptional">Whether rows may be without a question; the result is null then.</param>
    /// <exception cref="InvalidDataException">No such column exists.</exception>
    public static QuestionColumn? Find(DataSource source, RowColumns columns, string[] usual, bool isOptional)
    {
        if ((source.Columns.Question ?? TwoParts(columns) ?? columns.First(usual)) is { } name)
            return new(name, columns);
        return isOptional ? null : throw columns.Missing($"a question (one of {string.Join(", ", usual)})", "question");
    }

    /// <summary>SVAMP's layout: what is known, and what is asked about it, in columns of their own.</summary>
    private static string? TwoParts(RowColumns columns) =>
        columns.First("question_concat") is null
        && columns.First("body") is { } body
        && columns.First("question") is { } question
            ? $"{{{body}}} {{{question}}}"
            : null;

    /// <summary>The text; empty when it is missing, null when the column holds messages.</summary>
    /// <exception cref="InvalidDataException">The value is a list or an object.</exception>
    public string? Text(DataRow row)
    {
        if (IsNone)
            return "";
        if (isTemplate)
            return RowText.Template(row, Name, Role) ?? "";
        return HoldsMessages(row) ? null : RowText.Column(row, Name, Role);
    }

    /// <summary>The messages, when the column holds some in this row.</summary>
    /// <exception cref="InvalidDataException">One of them is not a message.</exception>
    public List<ChatMessage>? Messages(DataRow row) => HoldsMessages(row) ? MessageColumn.Read(row, Name) : null;

    private bool HoldsMessages(DataRow row) =>
        !isTemplate && !IsNone && ColumnPath.TryGet(row.Values, Name, out var value) && MessageColumn.Holds(value);
}
