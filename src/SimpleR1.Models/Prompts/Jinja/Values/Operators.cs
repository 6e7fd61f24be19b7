using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Texts;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>Python's operators.</summary>
internal static class Operators
{
    /// <summary>+ - * / // % **</summary>
    /// <exception cref="ValueException">The types have no such operator.</exception>
    public static object Binary(string operation, object left, object right)
    {
        if (left is Undefined l)
            throw new ValueException(l.Problem);
        if (operation == "%" && left is string or Markup)
            return PercentFormat.Apply(PythonText.Plain(left), right);
        if (right is Undefined r)
            throw new ValueException(r.Problem);
        if (Numbers.TryRead(left, out object a) && Numbers.TryRead(right, out object b))
            return Numbers.Calculate(operation, a, b);
        return operation switch
        {
            "+" => Add(left, right),
            "*" when Numbers.TryRead(right, out object count) => Repeat(left, count, right),
            "*" when Numbers.TryRead(left, out object count) => Repeat(right, count, left),
            _ => throw Unsupported(operation, left, right),
        };
    }

    private static object Add(object left, object right) =>
        (left, right) switch
        {
            (string a, string b) => Concatenate(a, b),
            (Markup a, Markup b) => new Markup(Concatenate(a.Text, b.Text)),
            (Markup a, string b) => new Markup(Concatenate(a.Text, Markup.Escape(b))),
            (string a, Markup b) => new Markup(Concatenate(Markup.Escape(a), b.Text)),
            (Sequence a, Sequence b) when a.IsTuple == b.IsTuple => Concatenate(a, b),
            (string or Markup, _) => throw new ValueException(
                $"can only concatenate str (not \"{TypeNames.Of(right)}\") to str"
            ),
            _ => throw Unsupported("+", left, right),
        };

    private static string Concatenate(string a, string b)
    {
        Meter.Characters((long)a.Length + b.Length);
        return a + b;
    }

    private static Sequence Concatenate(Sequence a, Sequence b)
    {
        Meter.Step(a.Items.Count + b.Items.Count);
        return new([.. a.Items, .. b.Items], a.IsTuple);
    }

    private static object Repeat(object value, object count, object original)
    {
        if (count is not BigInteger times)
            throw Unsupported("*", value, original);
        switch (value)
        {
            case string text:
                return TextLayout.Repeat(text, times);
            case Markup markup:
                return new Markup(TextLayout.Repeat(markup.Text, times));
            case Sequence sequence:
                times = BigInteger.Max(0, times);
                Meter.Step((long)BigInteger.Min(int.MaxValue, sequence.Items.Count * times));
                int rounds = sequence.Items.Count == 0 ? 0 : (int)times;
                return new Sequence(
                    [.. Enumerable.Repeat(sequence.Items, rounds).SelectMany(i => i)],
                    sequence.IsTuple
                );
            default:
                throw Unsupported("*", value, original);
        }
    }

    /// <summary>- and + before a number.</summary>
    public static object Sign(string operation, object value)
    {
        if (value is Undefined undefined)
            throw new ValueException(undefined.Problem);
        if (!Numbers.TryRead(value, out object number))
            throw new ValueException($"bad operand type for unary {operation}: '{TypeNames.Of(value)}'");
        if (operation == "+")
            return number;
        return number is BigInteger integer ? -integer : -(double)number;
    }

    /// <summary>== != &lt; &gt; &lt;= &gt;= in, not in</summary>
    /// <exception cref="ValueException">The types have no order, or the container holds nothing.</exception>
    public static bool Compare(string operation, object left, object right)
    {
        Meter.Step();
        switch (operation)
        {
            case "==":
                return PythonEquality.Instance.Equals(left, right);
            case "!=":
                return !PythonEquality.Instance.Equals(left, right);
            case "in":
                return Protocols.Contains(right, left);
            case "not in":
                return !Protocols.Contains(right, left);
        }
        if (left is double.NaN || right is double.NaN)
            return false;
        int order = Protocols.Compare(left, right);
        return operation switch
        {
            "<" => order < 0,
            ">" => order > 0,
            "<=" => order <= 0,
            _ => order >= 0,
        };
    }

    private static ValueException Unsupported(string operation, object left, object right) =>
        new($"unsupported operand type(s) for {operation}: '{TypeNames.Of(left)}' and '{TypeNames.Of(right)}'");
}
