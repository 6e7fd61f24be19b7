using System.Text.RegularExpressions;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>Filters that make texts.</summary>
internal static partial class TextFilters
{
    public static readonly IReadOnlyDictionary<string, Filter> All = new Dictionary<string, Filter>
    {
        ["capitalize"] = Filter.OfText(TextCase.Capitalize),
        ["center"] = new(new(0, "width"), (v, a) => TextLayout.Center(PythonText.Of(v), a.Integer(0, 80), ' ')),
        ["e"] = Filter.WithoutArguments(Escape),
        ["escape"] = Filter.WithoutArguments(Escape),
        ["forceescape"] = Filter.OfText(text => new Markup(Meter.Text(Markup.Escape(text)))),
        ["format"] = new(Parameters.Any, Format),
        ["indent"] = new(new(0, "width", "first", "blank"), Indent),
        ["lower"] = Filter.OfText(TextCase.Lower),
        ["replace"] = new(new(2, "old", "new", "count"), Replace),
        ["safe"] = Filter.OfText(text => new Markup(text)),
        ["string"] = Filter.WithoutArguments(value => value is Markup ? value : PythonText.Of(value)),
        ["title"] = Filter.OfText(Title),
        ["tojson"] = new(new(0, "ensure_ascii", "indent", "separators", "sort_keys"), ToJson),
        ["trim"] = new(new(0, "chars"), Trim),
        ["truncate"] = new(new(0, "length", "killwords", "end", "leeway"), Truncate),
        ["upper"] = Filter.OfText(TextCase.Upper),
        ["wordcount"] = Filter.OfText(text => new System.Numerics.BigInteger(Words().Count(text))),
    };

    private static object Escape(object value) =>
        value is Markup ? value : new Markup(Meter.Text(Markup.Escape(PythonText.Of(value))));

    private static object Format(object value, BoundValues arguments)
    {
        var call = arguments.Call;
        if (call.Positional.Count > 0 && call.Named.Count > 0)
            throw new ValueException("format takes arguments with names or without, not both");
        if (call.Named.Count == 0)
            return PercentFormat.Apply(PythonText.Of(value), Values.Sequence.Tuple([.. call.Positional]));
        var mapping = new Mapping();
        foreach (var (name, argument) in call.Named)
            mapping.Entries[name] = argument;
        return PercentFormat.Apply(PythonText.Of(value), mapping);
    }

    private static object Indent(object value, BoundValues arguments)
    {
        string indentation = arguments.Value(0, System.Numerics.BigInteger.One * 4) is string or Markup
            ? PythonText.Plain(arguments[0])
            : TextLayout.Repeat(" ", Numbers.Integer(arguments.Value(0, System.Numerics.BigInteger.One * 4)));
        bool indentsFirst = arguments.Flag(1);
        bool indentsBlank = arguments.Flag(2);

        // Jinja adds a newline first, so that a text which ends in one keeps it.
        var lines = TextLayout.SplitLines(PythonText.Of(value) + "\n", keepEnds: false).ToList();
        Meter.Characters((long)indentation.Length * lines.Count);
        for (int i = 0; i < lines.Count; i++)
            if (i == 0 ? indentsFirst : indentsBlank || lines[i].Length > 0)
                lines[i] = indentation + lines[i];
        return Meter.Text(string.Join('\n', lines));
    }

    private static object Replace(object value, BoundValues arguments)
    {
        string text = PythonText.Of(value);
        string old = PythonText.Of(arguments.Value(0, ""));
        string replacement = PythonText.Of(arguments.Value(1, ""));
        return TextLayout.Replace(text, old, replacement, arguments.Integer(2, -1));
    }

    /// <summary>The first letter after each space, hyphen or opening bracket in upper case, all others in lower.</summary>
    private static object Title(string text) => string.Concat(WordBeginnings().Split(text).Select(TextCase.Capitalize));

    private static object ToJson(object value, BoundValues arguments)
    {
        string? indent = arguments[1] switch
        {
            null => null,
            string or Markup => PythonText.Plain(arguments[1]),
            object width => TextLayout.Repeat(" ", Numbers.Integer(width)),
        };
        string[] separators = arguments[2] is { } pair
            ? [.. Protocols.Iterate(pair).Select(PythonText.Plain)]
            : DefaultSeparators(indent);
        if (separators.Length != 2)
            throw new ValueException("tojson: separators should be two texts");
        var layout = new JsonLayout(indent, separators[0], separators[1], arguments.Flag(3), arguments.Flag(0));
        return Meter.Text(JsonWriter.Write(value, layout));
    }

    /// <summary>Python's: no space after the comma where a line break follows.</summary>
    private static string[] DefaultSeparators(string? indent) => [indent is null ? ", " : ",", ": "];

    private static object Trim(object value, BoundValues arguments)
    {
        string text = PythonText.Of(value);
        return arguments[0] is { } characters
            ? TextLayout.Strip(text, PythonText.Plain(characters), start: true, end: true)
            : PythonText.Strip(text);
    }

    private static object Truncate(object value, BoundValues arguments)
    {
        string[] characters = [.. PythonText.Characters(PythonText.Of(value))];
        int length = arguments.Integer(0, 255);
        string end = arguments.Text(2, "...");
        int room = length - PythonText.Length(end);
        if (room < 0)
            throw new ValueException($"truncate: expected length >= {PythonText.Length(end)}, found {length}");
        if (characters.Length <= length + (long)arguments.Integer(3, 5))
            return PythonText.Of(value);

        string kept = string.Concat(characters.Take(room));
        int space = kept.LastIndexOf(' ');
        return (arguments.Flag(1) || space < 0 ? kept : kept[..space]) + end;
    }

    [GeneratedRegex(@"\w+")]
    private static partial Regex Words();

    [GeneratedRegex(@"([-\s({\[<]+)")]
    private static partial Regex WordBeginnings();
}
