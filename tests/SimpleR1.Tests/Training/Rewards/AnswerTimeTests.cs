using System.Diagnostics;
using CsCheck;
using SimpleR1.Training.Rewards.Mathematics;
using Xunit;

namespace SimpleR1.Tests.Training.Rewards;

/// <summary>Any answer is graded in less than 100 ms: a policy writes whatever it likes.</summary>
public sealed class AnswerTimeTests
{
    private const double Limit = 100; // ms

    private static readonly string[] Fragments =
    [
        .. (
            @"\frac { } ( ) [ ] 1 23 .5 x \sqrt ^ _ ! % \begin{pmatrix} \end{pmatrix} & \\ | \pm = < \in , ; \cup \infty "
            + @"- + * / $ \boxed{ \log \{ \} \text{a} and pi \left final \ 😀 9999999999 f( n( 500! ^{99} \binom{99}{9} not is 5 cm "
            + @"m^2 apples ** #### ≈ 12:30 PM hours , million 1,000 \left( \right) ' ° \approx"
        ).Split(' '),
        " ",
        "final answer",
    ];

    /// <summary>Each text with what it is: repeats, nesting, long products, powers of powers.</summary>
    private static string[] Hostile() =>
        [
            new('(', 50_000),
            new('{', 50_000),
            "\\boxed{" + new string('9', 50_000),
            "9^{9^{9^{9^9}}}",
            "2^" + Nested("{10^", 30, "10", "}"),
            "((9^999)^999)^999",
            "500!!!!!!",
            new string('9', 990),
            "0." + new string('9', 990),
            Nested("\\{", 40, "5,5", ",5\\}"),
            Nested("\\{", 40, "5", ",6\\}"),
            Nested("n(", 90, "n", "+1)"),
            Nested("f(x,", 90, "1", ")"),
            Nested("\\sqrt{", 90, "2", "}"),
            Nested("\\frac{1}{1+", 60, "1", "}"),
            Nested("\\boxed{", 2000, "1", "}"),
            Nested("\\text{", 300, "a", "}"),
            "\\{" + Repeat("{1,2},", 100) + "1\\}",
            string.Join(",", Enumerable.Range(0, 250)),
            string.Join(",", Enumerable.Range(0, 150).Select(i => $"x+{i}")),
            "\\{" + string.Join(",", Enumerable.Range(0, 110).Select(i => $"\\sqrt{{{i}}}")) + "\\}",
            string.Join("\\cup", Enumerable.Range(0, 90).Select(i => $"({i},{i}.5)")),
            "\\begin{pmatrix}" + Repeat("1&", 200) + "1\\end{pmatrix}",
            .. new[]
            {
                "\\frac",
                "\\boxed{1},",
                "1,",
                "1 000 ",
                "$",
                "-",
                "!",
                "x^9*",
                "x*",
                "x+",
                "xy",
                "sin ",
                "sin-",
                "99!*",
                "1/499!+",
                "3^{-4000}+",
                "(1,2),",
                "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
                "x<",
                "1<",
                "\\pm",
                "1\\pm",
                "|",
                "\\binom{1000}{500}*",
                "\\text{a}",
                "not ",
                "5 not ",
                "a ",
                " ",
                "**a",
                "final answer ",
                "is ",
                "#### 1\n",
                "12:30 ",
                "5 hours and ",
                "5 hours ",
                "1,000",
                "\\\\le",
                "$1",
                "$a$ and ",
                "\\(",
                "x_",
                "e5",
                "1e400*",
                "'",
                "m ",
                "5 m/",
                "cm/",
                "one hundred ",
                "(approx ",
                "<b>",
                "\"",
                "1/",
                ".5",
                "9 9/9 ",
                "\\left(",
                "\\text{ cm}",
                "^\\circ C",
                "\\,",
                "°C",
                "4 million ",
                "5% ",
                "A-5 ",
                "`",
            }.SelectMany(piece =>
                new[] { Repeat(piece, 900 / piece.Length) + "1", Repeat(piece, 30_000 / piece.Length) }
            ),
        ];

    private static string Repeat(string piece, int count) => string.Concat(Enumerable.Repeat(piece, count));

    private static string Nested(string open, int depth, string inner, string close) =>
        Repeat(open, depth) + inner + Repeat(close, depth);

    [Fact]
    public void Hostile_answers_are_graded_in_time()
    {
        MathAnswers.Match("1/2", "x+1"); // compiled before it is measured
        var slow = new List<string>();
        foreach (string text in Hostile())
        {
            foreach (
                var (gold, answer) in new[]
                {
                    ("1/2", text),
                    ("\\{1,x\\}", text),
                    (text, text + " "),
                    (text, "x+" + text),
                }
            )
            {
                double time = Milliseconds(() => MathAnswers.Match(gold, answer, calculated: true));
                if (time > Limit)
                    slow.Add($"{time:F0} ms: {Beginning(gold)}  ~  {Beginning(answer)}");
            }
        }
        Assert.Empty(slow);
    }

    [Fact]
    public void Random_answers_are_graded_in_time_and_without_an_exception() =>
        Gen.Select(Gen.Int[0, Fragments.Length - 1].Array[0, 60], Gen.Int[1, 8])
            .Sample(
                (at, repeats) =>
                {
                    string text = Repeat(string.Concat(at.Select(i => Fragments[i])), repeats);
                    double time = Milliseconds(() =>
                        MathAnswers.Match("\\frac{1}{2}", text) | MathAnswers.Match(text, text + " ")
                    );
                    Assert.True(time <= 2 * Limit, $"{time:F0} ms: {text}");
                },
                iter: 4_000
            );

    /// <summary>Real answers with a piece put in or taken out: each still equals itself, boxed.</summary>
    [Fact]
    public void Changed_answers_are_graded_in_time_and_equal_themselves()
    {
        string[] golds = [.. GradedPairs.Kinds().SelectMany(GradedPairs.OfKind).Select(p => p.Gold).Distinct()];
        Gen.Select(Gen.Int[0, golds.Length - 1], Gen.Int[0, 30], Gen.Int[0, Fragments.Length - 1])
            .Sample(
                (gold, at, fragment) =>
                {
                    string text = golds[gold];
                    string changed = text.Insert(Math.Min(at, text.Length), Fragments[fragment]);
                    Assert.True(
                        Milliseconds(() => MathAnswers.Match(text, changed, calculated: true)) <= Limit,
                        changed
                    );
                    Assert.True(MathAnswers.Match(text, text, calculated: true), text);
                    Assert.True(MathAnswers.Match(text, $"\\boxed{{{text}}}", calculated: true), text);
                },
                iter: 2_000
            );
    }

    /// <summary>The shortest of up to three runs, because others use the machine too.</summary>
    private static double Milliseconds(Func<bool> match)
    {
        double best = double.PositiveInfinity;
        for (int run = 0; run < 3 && best > Limit / 2; run++)
        {
            var clock = Stopwatch.StartNew();
            match();
            best = Math.Min(best, clock.Elapsed.TotalMilliseconds);
        }
        return best;
    }

    private static string Beginning(string text) => text[..Math.Min(40, text.Length)];
}
