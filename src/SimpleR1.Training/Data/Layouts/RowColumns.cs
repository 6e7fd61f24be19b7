using SimpleR1.Training.Data.Rows;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>The columns that the rows of a source have: none is decided from the first row alone.</summary>
internal sealed class RowColumns
{
    private const int MostListed = 30;

    private readonly string name;
    private readonly IReadOnlyList<DataRow> rows;
    private readonly HashSet<string> used = []; // columns with a value in some row
    private readonly List<string> all = []; // in the order of their first row

    /// <param name="name">What messages call the source.</param>
    public RowColumns(string name, IReadOnlyList<DataRow> rows)
    {
        this.name = name;
        this.rows = rows;
        var seen = new HashSet<string>();
        foreach (var row in rows)
        foreach (var (column, value) in row.Values)
        {
            if (seen.Add(column))
                all.Add(column);
            if (value is not null)
                used.Add(column);
        }
    }

    /// <summary>Whether some row has this name, which may have dots.</summary>
    public bool Has(string column) => rows.Any(row => ColumnPath.TryGet(row.Values, column, out _));

    /// <summary>
    /// The first of some names that has a value in a row; else the first that exists; else null. A name is found in any
    /// case, and returned as the rows have it.
    /// </summary>
    public string? First(params ReadOnlySpan<string> candidates)
    {
        foreach (string candidate in candidates)
            if (Find(candidate, HasValue) is { } name)
                return name;
        foreach (string candidate in candidates)
            if (Find(candidate, Has) is { } name)
                return name;
        return null;
    }

    private string? Find(string candidate, Predicate<string> fits) =>
        fits(candidate)
            ? candidate
            : all.Find(column => column.Equals(candidate, StringComparison.OrdinalIgnoreCase) && fits(column));

    /// <summary>The error for a column that a recipe names and no row has.</summary>
    public InvalidDataException Missing(string column)
    {
        var known = rows.Take(100).SelectMany(row => ColumnPath.Names(row.Values)).Distinct().ToList();
        string? near = RecipeNames.Nearest(column, known);
        return new(
            $"{name}: no column for '{column}'"
                + (near is null ? $"; found {List()}" : $"; did you mean '{near}'? Found {List()}")
        );
    }

    /// <summary>The error when no usual column exists.</summary>
    /// <param name="wanted">"a question (one of ...)".</param>
    /// <param name="key">The key of the recipe that names one.</param>
    public InvalidDataException Missing(string wanted, string key) =>
        new(
            $"{name}: no column for {wanted}; found {List()}. "
                + $"Name it in the recipe: columns: {{{key}: ...}}; parts of a column have dots: a.b"
        );

    /// <summary>All columns, those with a name that is too long or too many cut.</summary>
    private string List() =>
        string.Join(", ", all.Take(MostListed).Select(c => $"'{JsonText.Excerpt(c)}'"))
        + (all.Count > MostListed ? $" and {all.Count - MostListed} more" : "");

    private bool HasValue(string column)
    {
        int dot = column.IndexOf('.');
        if (!used.Contains(column) && (dot < 0 || !used.Contains(column[..dot])))
            return false;
        return rows.Any(row => ColumnPath.TryGet(row.Values, column, out var value) && value is not null);
    }
}
