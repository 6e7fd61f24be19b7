using System.Globalization;
using System.Numerics;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>
/// Answers in LaTeX or plain notation → tree. Recursive descent over the characters, because LaTeX's arguments may be single digits
/// (<c>\frac12</c>). Never throws on any text; the depth and the length are bounded.
/// </summary>
internal sealed partial class MathParser
{
    private const int MaxLength = 1000,
        MaxDepth = 48;
    private static readonly HashSet<string> Functions =
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "lg",
        "exp",
        "sqrt",
        "abs",
    ];
    private static readonly Dictionary<string, string> Operators = new()
    {
        ["times"] = "*",
        ["cdot"] = "*",
        ["ast"] = "*",
        ["div"] = "/",
        ["pm"] = "±",
        ["mp"] = "∓",
        ["le"] = "≤",
        ["leq"] = "≤",
        ["leqslant"] = "≤",
        ["ge"] = "≥",
        ["geq"] = "≥",
        ["geqslant"] = "≥",
        ["lt"] = "<",
        ["gt"] = ">",
        ["ne"] = "≠",
        ["neq"] = "≠",
        ["approx"] = "≈",
        ["in"] = "∈",
        ["equiv"] = "≡",
        ["cup"] = "∪",
        ["cap"] = "∩",
        ["setminus"] = "∖",
        ["lvert"] = "|",
        ["rvert"] = "|",
        ["mid"] = "|",
        ["vert"] = "|",
        ["to"] = "→",
        ["rightarrow"] = "→",
        ["lbrace"] = "\\{",
        ["rbrace"] = "\\}",
        ["langle"] = "(",
        ["rangle"] = ")",
        ["lbrack"] = "[",
        ["rbrack"] = "]",
        ["colon"] = ":",
    };

    private readonly string text;
    private int at,
        depth,
        bars;

    private MathParser(string text) => this.text = text;

    /// <summary>Null when the text is not an expression.</summary>
    public static MathNode? Parse(string text)
    {
        if (text.Length is 0 or > MaxLength)
            return null;
        var parser = new MathParser(text);
        var node = parser.Semicolons();
        return parser.Peek() == '\0' ? node : null;
    }

    /// <summary>The names that mean something when written in plain text.</summary>
    public static bool IsWord(string word) =>
        Functions.Contains(word)
        || word is "pi" or "and" or "or" or "inf" or "infinity" or "oo" or "in" or "union" or "cup";

    private char Peek()
    {
        while (at < text.Length && (char.IsWhiteSpace(text[at]) || text[at] == '~'))
            at++;
        if (at >= text.Length)
            return '\0';
        // a command that stands for an operator is replaced by it on the way
        return
            text[at] == '\\'
            && CommandAt(at) is { Length: > 0 } command
            && Operators.TryGetValue(command, out string? symbol)
            ? symbol[0] == '\\'
                ? '\\'
                : symbol[0]
            : text[at];
    }

    private string CommandAt(int from)
    {
        int end = from + 1;
        while (end < text.Length && char.IsAsciiLetter(text[end]))
            end++;
        return text[(from + 1)..end];
    }

    /// <summary>Steps over what <see cref="Peek"/> saw.</summary>
    private void Skip()
    {
        Peek();
        at += text[at] == '\\' ? 1 + Math.Max(1, CommandAt(at).Length) : 1;
    }

    private bool Take(char c)
    {
        if (Peek() != c)
            return false;
        Skip();
        return true;
    }

    /// <summary>Takes a command or bracket such as \} or \rbrace.</summary>
    private bool TakeBrace(char brace)
    {
        Peek();
        if (at + 1 < text.Length && text[at] == '\\' && text[at + 1] == brace)
            at += 2;
        else if (at < text.Length && text[at] == '\\' && CommandAt(at) == (brace == '{' ? "lbrace" : "rbrace"))
            Skip();
        else
            return false;
        return true;
    }

    private string Word()
    {
        Peek();
        int end = at;
        while (end < text.Length && char.IsAsciiLetter(text[end]))
            end++;
        return text[at..end];
    }

    private MathNode? Semicolons() => Separated(() => Separated(Relation, TakeComma), () => Take(';'));

    private bool TakeComma()
    {
        if (Take(','))
        {
            if (Word() is "and" or "or")
                at += Word().Length; // "1, 2, and 3"
            return true;
        }
        if (Word() is not ("and" or "or"))
            return false;
        at += Word().Length;
        return true;
    }

    private MathNode? Separated(Func<MathNode?> item, Func<bool> separator)
    {
        if (item() is not { } first)
            return null;
        List<MathNode> items = [first];
        while (separator())
        {
            if (item() is not { } next)
                return null;
            items.Add(next);
        }
        return items.Count == 1 ? first : MathNode.Of(MathKind.List, [.. items]);
    }

    private MathNode? Relation()
    {
        if (SetExpression() is not { } first)
            return null;
        List<MathNode> items = [first];
        string operators = "";
        while (Peek() is '=' or '<' or '>' or '≤' or '≥' or '≠' or '≈' or '∈' or '≡' or '!' || Word() == "in")
        {
            char op = Peek();
            if (Word() == "in")
                (op, at) = ('∈', at + 2);
            else
                Skip();
            if (Take('='))
            {
                if (op == '=') { }
                else if (op is '<' or '>' or '!')
                    op = op switch
                    {
                        '<' => '≤',
                        '>' => '≥',
                        _ => '≠',
                    };
                else
                    return null;
            }
            else if (op == '!')
                return null;
            if (SetExpression() is not { } next)
                return null;
            items.Add(next);
            operators += op;
        }
        return items.Count == 1 ? first : new MathNode(MathKind.Relation, operators, [.. items]);
    }

    private MathNode? SetExpression()
    {
        var left = Sum();
        while (left is not null && (Peek() is '∪' or '∩' or '∖' || Word() is "union" or "cup"))
        {
            char op = Peek();
            if (Word() is { Length: > 0 } word)
                (op, at) = ('∪', at + word.Length);
            else
                Skip();
            left = Sum() is { } right
                ? MathNode.Of(
                    op switch
                    {
                        '∪' => MathKind.Union,
                        '∩' => MathKind.Intersection,
                        _ => MathKind.Difference,
                    },
                    left,
                    right
                )
                : null;
        }
        return left;
    }

    private MathNode? Sum()
    {
        if (++depth > MaxDepth)
            return null; // the whole parse fails: it is not an answer
        var left = Peek() is '±' or '∓' ? MathNode.Number(new(0)) : Product();
        while (left is not null && Peek() is '+' or '-' or '±' or '∓')
        {
            char op = Peek();
            Skip();
            if (Product() is not { } right)
                return null;
            left = op switch
            {
                '+' => MathNode.Of(MathKind.Add, left!, right),
                '-' => MathNode.Of(MathKind.Add, left!, MathNode.Of(MathKind.Negate, right)),
                '±' => MathNode.Of(MathKind.PlusMinus, left!, right),
                _ => MathNode.Of(MathKind.PlusMinus, left!, MathNode.Of(MathKind.Negate, right)),
            };
        }
        depth--;
        return left;
    }

    private MathNode? Product()
    {
        var left = Signed();
        while (left is not null)
        {
            if (Peek() is '*' or '/' or ':')
            {
                bool multiply = Take('*');
                if (!multiply)
                    Skip();
                else if (Peek() == '*') // ** is a power
                {
                    Skip();
                    left = Signed() is { } exponent ? MathNode.Of(MathKind.Power, left, exponent) : null;
                    continue;
                }
                left = Signed() is { } right
                    ? MathNode.Of(multiply ? MathKind.Multiply : MathKind.Divide, left, right)
                    : null;
            }
            else if (StartsFactor())
            {
                bool afterNumber = left.Kind == MathKind.Number;
                if (afterNumber && (char.IsAsciiDigit(Peek()) || Peek() == '.'))
                    return null; // "3 4" is two answers or none
                if (Power() is not { } right)
                    return null;
                bool mixed =
                    afterNumber
                    && left.Value.Denominator.IsOne
                    && right
                        is {
                            Kind: MathKind.Divide,
                            Name: "frac",
                            Items: [{ Kind: MathKind.Number } n, { Kind: MathKind.Number } d]
                        }
                    && n.Value.Numerator.Sign > 0
                    && n.Value.Numerator < d.Value.Numerator; // 1\frac{1}{2} is one and a half
                left = MathNode.Of(mixed ? MathKind.Add : MathKind.Multiply, left, right);
            }
            else
                return left;
        }
        return null;
    }

    private bool StartsFactor()
    {
        char c = Peek();
        if (c == '|')
            return bars == 0;
        if (c is '(' or '[' or '{' || char.IsLetterOrDigit(c) || c == '.')
            return !(c is 'a' or 'o' or 'i' or 'u' or 'c' && Word() is "and" or "or" or "in" or "union" or "cup");
        if (c is '∞' or '√' || c != '\\')
            return c is '∞' or '√';
        return (at + 1 < text.Length && text[at + 1] == '{')
            || CommandAt(at) is { Length: > 0 } command
                && command is not ("rfloor" or "rceil" or "end" or "rbrace" or "right");
    }

    private MathNode? Signed()
    {
        if (depth > MaxDepth)
            return null;
        if (Take('+'))
            return Signed();
        if (!Take('-'))
            return Power();
        depth++;
        var negated = Signed() is { } value ? MathNode.Of(MathKind.Negate, value) : null;
        depth--;
        return negated;
    }

    private MathNode? Power()
    {
        var left = Postfix();
        if (left is null || !Take('^'))
            return left;
        if (Peek() == '\\' && CommandAt(at) is "prime" or "top" or "T")
            return null;
        if (Argument(wholeNumber: true) is not { } exponent)
            return null;
        var power = MathNode.Of(MathKind.Power, left, exponent);
        return Peek() == '!' ? Postfix(power) : power;
    }

    private MathNode? Postfix(MathNode? given = null)
    {
        var node = given ?? Primary();
        while (node is not null)
        {
            if (Peek() == '!' && !(at + 1 < text.Length && text[at + 1] == '='))
                node = Take('!') ? MathNode.Of(MathKind.Factorial, node) : null;
            else if (Take('%'))
                node = MathNode.Of(MathKind.Percent, node);
            else if (node.Kind is MathKind.Symbol or MathKind.Number && Peek() == '_')
            {
                // a_{37} is a name of its own, and so is 204_5: a number in another base is not the number
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
        while (at < text.Length && char.IsAsciiDigit(text[at]))
            at++;
        int fraction = 0;
        if (at + 1 < text.Length && text[at] == '.' && char.IsAsciiDigit(text[at + 1]))
            for (at++; at < text.Length && char.IsAsciiDigit(text[at]); at++)
                fraction++;
        else if (at < text.Length && text[at] == '.' && at > start)
            at++; // "5."
        string digits = text[start..at].Replace(".", "");
        if (digits == "")
            return null;
        var value = new Rational(
            BigInteger.Parse(digits, NumberStyles.None, CultureInfo.InvariantCulture),
            BigInteger.Pow(10, fraction)
        );
        if (
            fraction >= 0
            && at < text.Length
            && text[at] == '\\'
            && CommandAt(at) == "overline"
            && text[..at].LastIndexOf('.') >= start
        )
            return Repeating(value, fraction);
        if (
            at + 1 < text.Length
            && text[at] is 'e' or 'E'
            && !text.Contains('\\')
            && (
                char.IsAsciiDigit(text[at + 1])
                || (text[at + 1] is '-' or '+' && at + 2 < text.Length && char.IsAsciiDigit(text[at + 2]))
            )
        )
        {
            int exponentAt = ++at;
            for (at++; at < text.Length && char.IsAsciiDigit(text[at]); at++) { }
            if (
                !int.TryParse(text[exponentAt..at], CultureInfo.InvariantCulture, out int exponent)
                || Math.Abs(exponent) > 400
            )
                return null;
            value =
                exponent >= 0
                    ? value * new Rational(BigInteger.Pow(10, exponent))
                    : value / new Rational(BigInteger.Pow(10, -exponent));
        }
        return MathNode.Number(value);
    }

    /// <summary>0.1\overline{6}: the digits after the bar repeat for ever.</summary>
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
