using System.Globalization;
using System.Numerics;
using System.Text.Json.Nodes;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards.Mathematics.Expressions;

namespace SimpleR1.Training.Rewards;

/// <summary>
/// The countdown game: an expression over given numbers, each used exactly once, that reaches a target. The arithmetic
/// is exact.
/// </summary>
public static class CountdownReward
{
    private const int MaxLength = 512;
    private const int MaxDepth = 64;

    /// <summary>
    /// 1 when the answer block is an expression over exactly the problem's numbers with the target as its value; needs
    /// the columns nums and target.
    /// </summary>
    public static double Score(RewardInput input)
    {
        var (numbers, target) = Task(input.Problem);
        return BuiltInRewards.Answer(input.Completion) is { } expression && Reaches(expression, numbers, target)
            ? 1
            : 0;
    }

    /// <summary>
    /// True when <paramref name="expression"/> (+ - * / and parentheses) uses each number exactly once and equals the
    /// target. Never throws on any text.
    /// </summary>
    public static bool Reaches(string expression, IReadOnlyList<long> numbers, long target)
    {
        if (expression.Length > MaxLength)
            return false;
        var parser = new Parser(expression);
        return parser.TryRead(out var value)
            && value.Denominator.IsOne
            && value.Numerator == target
            && parser.Numbers.Order().SequenceEqual(numbers.Select(n => (BigInteger)n).Order());
    }

    private static (long[] Numbers, long Target) Task(Problem problem)
    {
        var numbers = (problem.Fields.GetValueOrDefault("nums") as JsonArray)?.Select(Whole).ToArray();
        long? target = Whole(problem.Fields.GetValueOrDefault("target"));
        if (numbers is not null && target is not null && numbers.All(n => n is not null))
            return ([.. numbers.Select(n => n!.Value)], target.Value);
        string columns = string.Join(", ", problem.Fields.Keys.Select(k => $"'{k}'"));
        throw new InvalidDataException(
            "the countdown reward needs the columns 'nums' (a list of whole numbers) and 'target'; "
                + $"this problem has {columns}"
        );
    }

    /// <summary>44, and 44.0, which is how a file with columns of doubles has it.</summary>
    private static long? Whole(JsonNode? node) =>
        decimal.TryParse(node?.ToJsonString(), NumberStyles.Float, CultureInfo.InvariantCulture, out decimal value)
        && decimal.IsInteger(value)
        && Math.Abs(value) <= long.MaxValue
            ? (long)value
            : null;

    /// <summary>expression: term (±term)*, term: factor (*/ factor)*, factor: number | (expression) | -factor</summary>
    private sealed class Parser(string text)
    {
        private int at;
        private int depth;

        public List<BigInteger> Numbers { get; } = [];

        public bool TryRead(out Rational value) => Expression(out value) && Peek() == '\0' && at == text.Length;

        private char Peek()
        {
            while (at < text.Length && char.IsWhiteSpace(text[at]))
                at++;
            return at < text.Length ? text[at] : '\0';
        }

        private bool Expression(out Rational value)
        {
            if (!Term(out value))
                return false;
            while (Peek() is '+' or '-')
            {
                bool add = text[at++] == '+';
                if (!Term(out var next))
                    return false;
                value = add ? value + next : value - next;
            }
            return true;
        }

        private bool Term(out Rational value)
        {
            if (!Factor(out value))
                return false;
            while (Peek() is '*' or '/')
            {
                bool multiply = text[at++] == '*';
                if (!Factor(out var next) || (!multiply && next.Numerator.IsZero))
                    return false;
                value = multiply ? value * next : value / next;
            }
            return true;
        }

        private bool Factor(out Rational value)
        {
            value = default;
            if (depth >= MaxDepth)
                return false;
            char next = Peek();
            if (next is '(' or '-')
            {
                at++;
                depth++;
                bool read = next == '(' ? Expression(out value) && Peek() == ')' : Factor(out value);
                depth--;
                if (next == '(')
                    at++;
                else
                    value = -value;
                return read;
            }
            int start = at;
            while (at < text.Length && char.IsAsciiDigit(text[at]))
                at++;
            if (at == start)
                return false;
            var number = BigInteger.Parse(
                text.AsSpan(start, at - start),
                NumberStyles.None,
                CultureInfo.InvariantCulture
            );
            Numbers.Add(number);
            value = new(number);
            return true;
        }
    }
}
