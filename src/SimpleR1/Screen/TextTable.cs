namespace SimpleR1.Screen;

/// <summary>A column of a table for a terminal.</summary>
/// <param name="Name">Its header.</param>
/// <param name="Width">Characters that its cells take at least.</param>
/// <param name="Rank">Columns of the highest rank are left out first where the terminal is narrow; 0 always stays.</param>
internal sealed record TextColumn(string Name, int Width, int Rank)
{
    /// <summary>Text stands at the left, numbers at the right.</summary>
    public bool IsText { get; init; }
}

/// <summary>Rows of text in columns, as many as fit a width.</summary>
internal sealed class TextTable(IReadOnlyList<TextColumn> columns)
{
    private const string Gap = "  ";

    /// <summary>Indices of the columns that fit, in order.</summary>
    /// <param name="widths">Characters of each column.</param>
    public IReadOnlyList<int> Fit(IReadOnlyList<int> widths, int width)
    {
        var shown = Enumerable.Range(0, columns.Count).ToList();
        while (shown.Sum(i => widths[i] + Gap.Length) - Gap.Length > width)
        {
            int least = shown.MaxBy(i => columns[i].Rank);
            if (columns[least].Rank == 0)
                break;
            shown.Remove(least);
        }
        return shown;
    }

    /// <summary>The header and every row; a cell that is too wide for the terminal is cut.</summary>
    public IEnumerable<string> Lines(IReadOnlyList<string[]> rows, int width)
    {
        int[] widths = [.. columns.Select((c, i) => rows.Select(r => r[i].Length).Append(LeastWidth(c)).Max())];
        var shown = Fit(widths, width);
        yield return Line([.. columns.Select(c => c.Name)], widths, shown, width);
        foreach (string[] row in rows)
            yield return Line(row, widths, shown, width);
    }

    /// <summary>The header for rows of columns of their own widths.</summary>
    public string Header(int width) => Row([.. columns.Select(c => c.Name)], width);

    /// <summary>A row for columns of their own widths.</summary>
    public string Row(string[] cells, int width)
    {
        int[] widths = [.. columns.Select(LeastWidth)];
        return Line(cells, widths, Fit(widths, width), width);
    }

    /// <summary>A row with the name before each cell, at any width.</summary>
    public string Named(string[] cells) => string.Join(Gap, columns.Zip(cells, (c, cell) => $"{c.Name} {cell}"));

    private static int LeastWidth(TextColumn column) => Math.Max(column.Name.Length, column.Width);

    private string Line(string[] cells, int[] widths, IReadOnlyList<int> shown, int width)
    {
        var padded = shown.Select(i => columns[i].IsText ? cells[i].PadRight(widths[i]) : cells[i].PadLeft(widths[i]));
        return Terminal.Cut(string.Join(Gap, padded).TrimEnd(), width);
    }
}
