using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>What a filter or method takes besides its target.</summary>
/// <param name="Required">How many of the names must be given.</param>
internal sealed record Parameters(int Required, params string[] Names)
{
    public static readonly Parameters None = new(0);

    /// <summary>Takes any arguments, and reads them itself.</summary>
    public static readonly Parameters Any = new(0) { IsOpen = true };

    public bool IsOpen { get; private init; }

    /// <summary>What is wrong with these arguments; null if nothing is.</summary>
    public string? Misfit(string name, int positional, IEnumerable<string> named)
    {
        if (IsOpen)
            return null;
        if (positional > Names.Length)
            return $"{name} takes {Names.Length} arguments at most, found {positional}";
        string[] given = [.. Names.Take(positional), .. named];
        if (given.FirstOrDefault(n => !Names.Contains(n)) is { } unknown)
            return $"{name} has no argument '{unknown}'";
        if (given.Distinct().Count() < given.Length)
            return $"{name}: an argument is given twice";
        return Names.Take(Required).FirstOrDefault(n => !given.Contains(n)) is { } missing
            ? $"{name}: the argument '{missing}' is missing"
            : null;
    }

    /// <exception cref="ValueException">The arguments do not fit.</exception>
    public BoundValues Bind(string name, CallValues call)
    {
        if (Misfit(name, call.Positional.Count, call.Named.Keys) is { } misfit)
            throw new ValueException(misfit);
        var values = new object?[Names.Length];
        for (int i = 0; i < Math.Min(values.Length, call.Positional.Count); i++)
            values[i] = call.Positional[i];
        for (int i = 0; i < values.Length; i++)
            if (call.Named.TryGetValue(Names[i], out object? value))
                values[i] = value;
        return new(values, call);
    }
}

/// <summary>Arguments in the order of their parameters.</summary>
internal sealed class BoundValues(object?[] values, CallValues call)
{
    /// <summary>As the call gave them.</summary>
    public CallValues Call => call;

    /// <summary>An argument; null if it is not given or None.</summary>
    public object? this[int place] => values[place] is None ? null : values[place];

    /// <summary>An argument as it is, or the default.</summary>
    public object Value(int place, object otherwise) => values[place] ?? otherwise;

    public string Text(int place, string otherwise) => this[place] is { } value ? PythonText.Plain(value) : otherwise;

    public int Integer(int place, int otherwise) => this[place] is { } value ? Numbers.Index(value) : otherwise;

    public bool Flag(int place) => this[place] is { } value && Protocols.IsTrue(value);
}
