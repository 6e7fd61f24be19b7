using System.Globalization;
using System.Numerics;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>What operators join: numbers, names, groups, and what follows them directly.</summary>
internal sealed partial class MathParser
{
    private MathNode? Postfix(MathNode? operand = null)
    {
        var node = operand ?? Primary();
        while (node is not null)
        {
            if (Peek() == '!' && !(at + 1 < text.Length && text[at + 1] == '='))
                node = Take('!') ? MathNode.Of(MathKind.Factorial, node) : null;
            else if (Take('%'))
                node = MathNode.Of(MathKind.Percent, node);
            else if (node.Kind is MathKind.Symbol or MathKind.Number && Peek() == '_')
            {
                // a_{37} is one name, and so is 204_5: a number in another base is not the number
                Skip();
                int start = at;
                if (Argument(wholeNumber: true) is null)
                    return null;
                string name =
                    node.Kind == MathKind.Number
                        ? node.Value.Numerator.ToString(CultureInfo.InvariantCulture)
                        : node.Name;
                node = new MathNode(MathKind.Symbol, name + "_" + text[start..at].Trim(' ', '{', '}'));
            }
            else
                return node;
        }
        return null;
    }

    /// <summary>A braced group, a command with its arguments, a letter or a digit (or a whole number).</summary>
    private MathNode? Argument(bool wholeNumber = false)
    {
        char c = Peek();
        if (c == '-' && wholeNumber)
            return Take('-') && Argument(true) is { } value ? MathNode.Of(MathKind.Negate, value) : null;
        if (char.IsAsciiDigit(c) && !wholeNumber)
        {
            at++;
            return MathNode.Number(new(c - '0'));
        }
        if (char.IsAsciiLetter(c))
        {
            at++;
            return Name(c.ToString());
        }
        return Primary();
    }

    private MathNode? Primary()
    {
        char c = Peek();
        if (char.IsAsciiDigit(c) || c == '.')
            return NumberLiteral();
        if (char.IsAsciiLetter(c))
            return Letters();
        switch (c)
        {
            case '(' or '[':
                return Bracketed(c);
            case '{':
                return Group();
            case '|':
                return Absolute();
            case '∞':
                Skip();
                return MathNode.Of(MathKind.Infinity);
            case '√':
                Skip();
                return Argument(true) is { } root ? new(MathKind.Function, "sqrt", root) : null;
            case '\\':
                return Command();
            default:
                if (!char.IsLetter(c))
                    return null;
                Skip();
                return Name(c.ToString());
        }
    }

    private MathNode? NumberLiteral()
    {
        int start = at;
        int fraction = Digits();
        string digits = text[start..at].Replace(".", "");
        if (digits == "")
            return null;
        var value = new Rational(
            BigInteger.Parse(digits, NumberStyles.None, CultureInfo.InvariantCulture),
            BigInteger.Pow(10, fraction)
        );
        bool hasPoint = text[..at].LastIndexOf('.') >= start;
        if (hasPoint && at < text.Length && text[at] == '\\' && CommandAt(at) == "overline")
            return Repeating(value, fraction);
        return StartsExponent() ? Scaled(value) : MathNode.Number(value);
    }

    /// <summary>Steps over digits with at most one point; returns how many follow the point.</summary>
    private int Digits()
    {
        int start = at;
        while (at < text.Length && char.IsAsciiDigit(text[at]))
            at++;
        if (at >= text.Length || text[at] != '.')
            return 0;
        if (at + 1 < text.Length && char.IsAsciiDigit(text[at + 1]))
        {
            int point = at++;
            while (at < text.Length && char.IsAsciiDigit(text[at]))
                at++;
            return at - point - 1;
        }
        if (at > start)
            at++; // "5."
        return 0;
    }

    /// <summary>True before e5 or E-5, in plain notation only: LaTeX writes 10^5, and its e is a number.</summary>
    private bool StartsExponent()
    {
        if (at + 1 >= text.Length || text[at] is not ('e' or 'E') || text.Contains('\\'))
            return false;
        bool isSigned = text[at + 1] is '-' or '+';
        int digit = isSigned ? at + 2 : at + 1;
        return digit < text.Length && char.IsAsciiDigit(text[digit]);
    }

    private MathNode? Scaled(Rational value)
    {
        int start = ++at;
        for (at++; at < text.Length && char.IsAsciiDigit(text[at]); at++) { }
        if (!int.TryParse(text[start..at], CultureInfo.InvariantCulture, out int exponent) || Math.Abs(exponent) > 400)
            return null;
        var scale = new Rational(BigInteger.Pow(10, Math.Abs(exponent)));
        return MathNode.Number(exponent >= 0 ? value * scale : value / scale);
    }

    /// <summary>0.1\overline{6}: the digits under the bar repeat for ever.</summary>
    private MathNode? Repeating(Rational start, int fraction)
    {
        Skip();
        if (!Take('{'))
            return null;
        int from = at;
        while (at < text.Length && char.IsAsciiDigit(text[at]))
            at++;
        string period = text[from..at];
        if (period == "" || !Take('}'))
            return null;
        return MathNode.Number(
            start
                + new Rational(
                    BigInteger.Parse(period, CultureInfo.InvariantCulture),
                    BigInteger.Pow(10, fraction) * (BigInteger.Pow(10, period.Length) - 1)
                )
        );
    }

    private MathNode? Letters()
    {
        string word = Word();
        if (word is "and" or "or" or "in" or "union" or "cup")
            return null;
        if (Functions.Contains(word))
        {
            at += word.Length;
            return FunctionCall(word);
        }
        if (word is "pi" or "inf" or "infinity" or "oo")
        {
            at += word.Length;
            return word == "pi" ? Name("pi") : MathNode.Of(MathKind.Infinity);
        }
        return Name(text[at++].ToString());
    }

    private static MathNode Name(string name) => new(MathKind.Symbol, name == "π" ? "pi" : name);

    /// <summary>(x) is x; (a, b) is a point or an interval; [a, b) an interval.</summary>
    private MathNode? Bracketed(char open)
    {
        int outerBars = bars;
        bars = 0;
        Skip();
        var inner = Semicolons();
        bars = outerBars;
        char close = Peek();
        if (inner is null || close is not (')' or ']'))
            return null;
        Skip();
        return inner.Kind == MathKind.List ? new MathNode(MathKind.Tuple, $"{open}{close}", inner.Items) : inner;
    }

    private MathNode? Group()
    {
        Skip();
        int outerBars = bars;
        bars = 0;
        var inner = Semicolons();
        bars = outerBars;
        return inner is not null && Take('}') ? inner : null;
    }

    private MathNode? Absolute()
    {
        Skip();
        bars++;
        var inner = Sum();
        bars--;
        return inner is not null && Take('|') ? new(MathKind.Function, "abs", inner) : null;
    }
}
