using System.Globalization;
using System.Numerics;

namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

/// <summary>What operators join: numbers, names, groups, and what follows them directly.</summary>
internal sealed partial class MathParser
{
    /// <summary>Letters that name a function, also before a sum: f(x + 1) is no product, but n(n + 1) is one.</summary>
    private static readonly HashSet<string> FunctionNames = [.. "f g h F G H".Split(' ')];

    /// <summary>What a bracket after a letter may hold when it is a factor: n(n + 1), a(bc), x(y^2).</summary>
    private static readonly MathKind[] Calculations =
    [
        MathKind.Add,
        MathKind.Multiply,
        MathKind.Divide,
        MathKind.Power,
        MathKind.PlusMinus,
        MathKind.Percent,
        MathKind.Factorial,
        MathKind.Function,
    ];

    private int readFrom = -1; // a bracket that was read, and is read next
    private int readTo;
    private MathNode? read;

    private MathNode? Postfix(MathNode? operand = null)
    {
        var node = operand ?? Primary();
        while (node is not null)
        {
            if (Peek() == '!' && !(at + 1 < text.Length && text[at + 1] == '='))
                node = Factorial(node);
            else if (Peek() == '(' && node.Kind == MathKind.Symbol && Applied(node.Name) is { } application)
                node = application;
            else if (Peek() == '\'' && node.Kind == MathKind.Symbol)
            {
                Skip();
                node = new(MathKind.Symbol, node.Name + "'"); // a derivative, or another point
            }
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

    /// <summary>n!, or n!!, which is n(n - 2)(n - 4)…; more signs than two mean nothing.</summary>
    private MathNode? Factorial(MathNode operand)
    {
        Skip();
        if (at >= text.Length || text[at] != '!')
            return MathNode.Of(MathKind.Factorial, operand);
        at++;
        bool isTriple = at < text.Length && text[at] == '!';
        return isTriple ? null : new(MathKind.Factorial, "!", operand);
    }

    /// <summary>
    /// A name with arguments: f(0), P(A), T(n, k). Null, with nothing read, when it is a factor before a bracket, as in
    /// n(n + 1).
    /// </summary>
    private MathNode? Applied(string name)
    {
        if (name is "pi" or "e" or "i")
            return null;
        int start = at;
        var argument = Bracketed('(');
        bool isFactor = argument is null || Calculations.Contains(argument.Kind);
        if (argument is not null && (!isFactor || FunctionNames.Contains(name.TrimEnd('\''))))
            return new(MathKind.Application, name, argument.Kind == MathKind.Tuple ? argument.Items : [argument]);

        // The factor is read next: brackets in brackets must not be parsed again on every level
        readFrom = start;
        readTo = at;
        read = argument;
        at = start;
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
        if (++depth > MaxDepth)
            return null; // the whole parse fails: it is not an answer
        var node = Operand();
        depth--;
        return node;
    }

    private MathNode? Operand()
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
        if (Prose.IsWord(text, at, word.Length) && (at == 0 || !char.IsAsciiLetter(text[at - 1])))
        {
            at += word.Length;
            return Name(word); // "cost", not c·o·s·t
        }
        return Name(text[at++].ToString());
    }

    private static MathNode Name(string name) => new(MathKind.Symbol, name == "π" ? "pi" : name);

    /// <summary>(x) is x; (a, b) is a point or an interval; [a, b) an interval.</summary>
    private MathNode? Bracketed(char open)
    {
        if (at == readFrom)
        {
            at = readTo;
            return read;
        }
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
