using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>Values as JSON, the way Python's json.dumps writes them.</summary>
internal sealed class JsonWriter(JsonLayout layout)
{
    private readonly StringBuilder text = new();

    /// <exception cref="ValueException">JSON has no form for the value.</exception>
    public static string Write(object value, JsonLayout layout)
    {
        var writer = new JsonWriter(layout);
        writer.Write(value, 0);
        return writer.text.ToString();
    }

    private void Write(object value, int level)
    {
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
            throw new ValueException("the value is nested too deeply for JSON");
        Meter.Step();
        Meter.CheckLength(text.Length);
        switch (value)
        {
            case Sequence sequence:
                WriteAll('[', sequence.Items, level, item => Write(item, level + 1));
                text.Append(']');
                break;
            case Mapping mapping:
                WriteAll('{', Keys(mapping), level, key => WriteEntry(key, mapping.Entries[key], level + 1));
                text.Append('}');
                break;
            case string or Markup:
                Quote(PythonText.Plain(value));
                break;
            default:
                text.Append(Scalar(value));
                break;
        }
    }

    private IReadOnlyCollection<object> Keys(Mapping mapping) =>
        layout.SortKeys ? Protocols.Sort(mapping.Entries.Keys, key => key, descending: false) : mapping.Entries.Keys;

    private void WriteAll(char open, IReadOnlyCollection<object> items, int level, Action<object> write)
    {
        text.Append(open);
        bool first = true;
        foreach (object item in items)
        {
            if (!first)
                text.Append(layout.ItemSeparator);
            first = false;
            NewLine(level + 1);
            write(item);
        }
        if (!first)
            NewLine(level);
    }

    private void NewLine(int level)
    {
        if (layout.Indent is null)
            return;
        text.Append('\n');
        for (int i = 0; i < level; i++)
            text.Append(layout.Indent);
    }

    private void WriteEntry(object key, object value, int level)
    {
        Quote(key is string or Markup ? PythonText.Plain(key) : Scalar(key));
        text.Append(layout.KeySeparator);
        Write(value, level);
    }

    private static string Scalar(object value) =>
        value switch
        {
            None => "null",
            bool flag => flag ? "true" : "false",
            BigInteger integer => integer.ToString(CultureInfo.InvariantCulture),
            double.PositiveInfinity => "Infinity",
            double.NegativeInfinity => "-Infinity",
            double.NaN => "NaN",
            double number => Numbers.Text(number),
            _ => throw new ValueException($"object of type {TypeNames.Of(value)} is not JSON serializable"),
        };

    private void Quote(string value)
    {
        text.Append('"');
        foreach (char c in value)
            text.Append(Escape(c));
        text.Append('"');
    }

    private string Escape(char c) =>
        c switch
        {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\f' => "\\f",
            '\b' => "\\b",
            < ' ' => $"\\u{(int)c:x4}",
            > '~' when layout.EnsureAscii => $"\\u{(int)c:x4}",
            _ => c.ToString(),
        };
}
