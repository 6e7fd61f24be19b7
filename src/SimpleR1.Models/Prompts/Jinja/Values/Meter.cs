namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>
/// What one rendering may use, so that no template can hang a run or fill the memory. A rendering is synchronous, so its
/// meter belongs to its thread.
/// </summary>
internal sealed class Meter
{
    /// <summary>A real template needs some thousands for a conversation.</summary>
    private const long MaxSteps = 20_000_000;

    /// <summary>In characters; more than any context holds.</summary>
    private const int MaxText = 1 << 24;

    /// <summary>Characters that cost as much as a step.</summary>
    private const int CharactersPerStep = 64;

    [ThreadStatic]
    private static Meter? current;

    private long steps;

    /// <summary>Runs with a meter of its own.</summary>
    public static T Measure<T>(Func<T> render)
    {
        var outer = current;
        current = new();
        try
        {
            return render();
        }
        finally
        {
            current = outer;
        }
    }

    /// <exception cref="ValueException">The rendering has used all of its steps.</exception>
    public static void Step(long count = 1)
    {
        if (current is { } meter && (meter.steps += count) > MaxSteps)
            throw new ValueException(
                FormattableString.Invariant($"the template does not end within {MaxSteps:N0} steps")
            );
    }

    /// <summary>Counts a text's making before it is made.</summary>
    /// <exception cref="ValueException">The text is too long.</exception>
    public static void Characters(long length)
    {
        CheckLength(length);
        Step(1 + length / CharactersPerStep);
    }

    /// <exception cref="ValueException">The text is too long.</exception>
    public static void CheckLength(long length)
    {
        if (length > MaxText)
            throw new ValueException(FormattableString.Invariant($"a text of more than {MaxText:N0} characters"));
    }

    /// <summary>A text that was made.</summary>
    public static string Text(string text)
    {
        Characters(text.Length);
        return text;
    }
}
