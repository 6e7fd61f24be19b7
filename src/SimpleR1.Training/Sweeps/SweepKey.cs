namespace SimpleR1.Training.Sweeps;

/// <summary>A recipe key of a sweep with its values as text, such as <c>optimizer.learning_rate=5e-06,1e-05</c>.</summary>
public sealed record SweepKey(string Key, IReadOnlyList<string> Values)
{
    private const string Expected = "expected key.path=value,value, such as optimizer.learning_rate=5e-6,1e-5";

    /// <summary>Reads a key with its values; commas within brackets, braces or quotes belong to a value.</summary>
    /// <exception cref="ArgumentException">There is no key, no value, or a value twice.</exception>
    public static SweepKey Parse(string text)
    {
        int equals = text.IndexOf('=');
        string key = equals > 0 ? text[..equals].Trim() : "";
        if (key.Length == 0)
            throw new ArgumentException($"--sweep {text}: {Expected}");
        if (key == "name")
            throw new ArgumentException($"--sweep {text}: the runs of a sweep are named by its other keys");
        string[] values = [.. Split(text[(equals + 1)..]).Select(v => v.Trim())];
        if (values.Contains(""))
            throw new ArgumentException($"--sweep {text}: a value is empty; {Expected}");
        if (values.Distinct().Count() < values.Length)
            throw new ArgumentException($"--sweep {text}: a value is given twice");
        return new(key, values);
    }

    /// <summary>Parts between the commas that no bracket, brace or quote encloses.</summary>
    internal static IEnumerable<string> Split(string text)
    {
        int depth = 0;
        int start = 0;
        char? quote = null;
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (quote is not null)
            {
                if (c == quote)
                    quote = null;
                else if (c == '\\' && quote == '"')
                    i++; // YAML's escape within double quotes
            }
            else if (c is '"' or '\'' && BeginsValue(text, i))
                quote = c;
            else if (c is '[' or '{')
                depth++;
            else if (c is ']' or '}')
                depth--;
            else if (c == ',' && depth <= 0)
            {
                yield return text[start..i];
                start = i + 1;
            }
        }
        yield return text[start..];
    }

    /// <summary>A quote in the middle of a word, as in don't, opens nothing.</summary>
    private static bool BeginsValue(string text, int at) => at == 0 || text[at - 1] is ',' or ' ' or '[' or '{' or ':';
}
