using System.Globalization;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>Python's str.format with fields such as {}, {0} and {name}.</summary>
internal static class BraceFormat
{
    /// <exception cref="ValueException">A field has a format or a path, which is not supported, or there is no such value.</exception>
    public static string Apply(string format, CallValues call)
    {
        var text = new StringBuilder();
        int automatic = 0;
        for (int i = 0; i < format.Length; i++)
        {
            char c = format[i];
            if (c is not ('{' or '}'))
            {
                text.Append(c);
                continue;
            }
            if (i + 1 < format.Length && format[i + 1] == c) // {{ and }}
            {
                text.Append(c);
                i++;
                continue;
            }
            int end = c == '{' ? format.IndexOf('}', i) : -1;
            if (end < 0)
                throw new ValueException($"Single '{c}' encountered in format string");
            string field = format[(i + 1)..end];
            text.Append(PythonText.Of(field.Length == 0 ? Place(automatic++, call) : Value(field, call)));
            Meter.CheckLength(text.Length);
            i = end;
        }
        return Meter.Text(text.ToString());
    }

    private static object Value(string field, CallValues call)
    {
        if (field.AsSpan().ContainsAny(":!.[{"))
            throw new ValueException($"format: the field '{{{field}}}' is not supported; {{}}, {{0}} and {{name}} are");
        if (int.TryParse(field, NumberStyles.None, CultureInfo.InvariantCulture, out int place))
            return Place(place, call);
        return call.Named.TryGetValue(field, out object? value)
            ? value
            : throw new ValueException($"format: no argument is called '{field}'");
    }

    private static object Place(int place, CallValues call) =>
        place < call.Positional.Count
            ? call.Positional[place]
            : throw new ValueException($"format: there is no argument {place}");
}
