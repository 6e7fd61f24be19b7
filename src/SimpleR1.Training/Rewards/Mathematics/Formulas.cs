namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>Finds formulas between dollar signs and LaTeX's brackets, and tells them from amounts of money.</summary>
internal static class Formulas
{
    /// <summary>A formula, from its first delimiter to the end of its last.</summary>
    public readonly record struct Formula(int Start, int End, string Content);

    /// <summary>All formulas of a text, in order.</summary>
    public static List<Formula> Find(string text)
    {
        var found = new List<Formula>();
        var missing = new HashSet<string>(); // delimiters that the rest of the text does not have
        for (int i = 0; i < text.Length; i++)
        {
            if (Opening(text, i) is not { } open)
            {
                if (text[i] == '\\')
                    i++; // \$ is a dollar
                continue;
            }
            string close = Closing(open);
            int start = i + open.Length;
            int end = missing.Contains(close) ? -1 : FindClosing(text, start, close);
            if (end < 0)
                missing.Add(close);
            else if (end > start && (open != "$" || IsFormula(text, start, end)))
            {
                found.Add(new(i, end + close.Length, text[start..end]));
                i = end + close.Length - 1;
            }
            else if (end == start)
                i = end + close.Length - 1;
        }
        return found;
    }

    private static string? Opening(string text, int at)
    {
        if (text[at] == '$')
            return at + 1 < text.Length && text[at + 1] == '$' ? "$$" : "$";
        if (text[at] != '\\' || at + 1 >= text.Length)
            return null;
        return text[at + 1] switch
        {
            '[' => "\\[",
            '(' => "\\(",
            _ => null,
        };
    }

    private static string Closing(string open) =>
        open switch
        {
            "\\[" => "\\]",
            "\\(" => "\\)",
            _ => open,
        };

    private static int FindClosing(string text, int start, string close)
    {
        for (int i = start; i < text.Length; i++)
        {
            if (string.CompareOrdinal(text, i, close, 0, close.Length) == 0)
                return i;
            if (text[i] == '\\')
                i++;
        }
        return -1;
    }

    /// <summary>
    /// False for what stands between two amounts: in "he pays $9 and she pays $9" the second sign has a digit after it.
    /// </summary>
    private static bool IsFormula(string text, int start, int end)
    {
        bool isBeforeDigit = end + 1 < text.Length && char.IsAsciiDigit(text[end + 1]);
        string content = text[start..end];
        bool isAmount = char.IsAsciiDigit(content[0]) && Prose.Contains(content);
        return !isBeforeDigit && !isAmount;
    }
}
