namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

/// <summary>
/// Answers in LaTeX or plain notation → tree. Recursive descent over the characters, because LaTeX's arguments may be
/// single digits (<c>\frac12</c>). Never throws on any text; the depth and the length are bounded.
/// </summary>
internal sealed partial class MathParser
{
    private const int MaxLength = 1000;
    private const int MaxDepth = 100;

    private static readonly HashSet<string> Functions =
    [
        .. "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp sqrt abs".Split(' '),
    ];

    private readonly string text;
    private int at;
    private int depth; // of nested sums, signs and operands
    private int bars; // | that are open

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

    /// <summary>The names that mean something in a formula when written in plain text.</summary>
    public static bool IsKnown(string word) =>
        Functions.Contains(word)
        || word is "pi" or "and" or "or" or "inf" or "infinity" or "oo" or "in" or "union" or "cup";

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
            if (RelationOperator() is not { } op || SetExpression() is not { } next)
                return null;
            items.Add(next);
            operators += op;
        }
        return items.Count == 1 ? first : new MathNode(MathKind.Relation, operators, [.. items]);
    }

    /// <summary>
    /// One character for an operator of one or two, or the word "in"; null when there is no such operator.
    /// </summary>
    private char? RelationOperator()
    {
        if (Word() == "in")
        {
            at += 2;
            return '∈';
        }
        char op = Peek();
        Skip();
        if (!Take('='))
            return op == '!' ? null : op;
        return op switch
        {
            '=' => '=',
            '<' => '≤',
            '>' => '≥',
            '!' => '≠',
            _ => null,
        };
    }

    private MathNode? SetExpression()
    {
        var left = Sum();
        while (left is not null && (Peek() is '∪' or '∩' or '∖' || Word() is "union" or "cup"))
        {
            var kind = SetOperator();
            left = Sum() is { } right ? MathNode.Of(kind, left, right) : null;
        }
        return left;
    }

    /// <summary>∪, ∩, ∖, or a word for ∪.</summary>
    private MathKind SetOperator()
    {
        int word = Word().Length;
        if (word > 0)
        {
            at += word;
            return MathKind.Union;
        }
        char op = Peek();
        Skip();
        return op switch
        {
            '∪' => MathKind.Union,
            '∩' => MathKind.Intersection,
            _ => MathKind.Difference,
        };
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
                bool mixed = afterNumber && left.Value.Denominator.IsOne && IsProperFraction(right);
                left = MathNode.Of(mixed ? MathKind.Add : MathKind.Multiply, left, right); // 1\frac{1}{2} is one and a half
            }
            else
                return left;
        }
        return null;
    }

    private static bool IsProperFraction(MathNode node) =>
        node
            is {
                Kind: MathKind.Divide,
                Name: "frac",
                Items: [{ Kind: MathKind.Number } n, { Kind: MathKind.Number } d]
            }
        && n.Value.Numerator.Sign > 0
        && n.Value.Numerator < d.Value.Numerator;

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
}
