using SimpleR1.Training.Rewards.Mathematics;
using Xunit;

namespace SimpleR1.Tests.Training.Rewards;

public sealed class MathAnswersTests
{
    public static readonly TheoryData<string, string, bool> Pairs = new()
    {
        { "18", "18", true },
        { "18", "$18", true },
        { "18", "18 dollars per day", true },
        { "18", "The total is 18.", true },
        { "18", "18.5", false },
        { "18", "118", false },
        { "1250", "1,250", true },
        { "0.5", "1/2", true },
        { "1/3", "0.333333", true },
        { "1/3", "0.33", false },
        { "1.5", "1\\frac{1}{2}", true },
        { "1e-9", "2e-9", false },
        { "123456789012345678901234567890", "123456789012345678901234567891", false },
        { "\\frac{1}{6}", "0.1\\overline{6}", true },
        { "x^2+2x+1", "(x+1)^2", true },
        { "\\frac{x^2-1}{x-1}", "x+1", true },
        { "\\sin^2 x+\\cos^2 x", "1", true },
        { "x+1", "x+2", false },
        { "\\frac{\\sqrt{3}}{3}", "1/\\sqrt{3}", true },
        { "\\sqrt[3]{2}", "2^{1/3}", true },
        { "2\\pi", "6.283185", true },
        { "\\log_2 8", "3", true },
        { "\\binom{5}{2}", "10", true },
        { "5!", "120", true },
        { "(2,3)", "(3,2)", false },
        { "\\{2,3\\}", "\\{3,2\\}", true },
        { "(1,2]", "(1,2)", false },
        { "(-\\infty,3)", "x<3", true },
        { "(-\\infty,3)", "x\\le 3", false },
        { "(0,1)\\cup(1,2)", "(1,2)\\cup(0,1)", true },
        { "(0,2)", "(0,1)\\cup(1,2)", false },
        { "[0,2]", "[0,1]\\cup[1,2]", true },
        { "y = 2x+1", "2x - y = -1", true },
        { "y = 2x+1", "y = 2x-1", false },
        { "x > 2", "2x > 4", true },
        { "x > 2", "-x < -2", true },
        { "x > 2", "x < 2", false },
        { "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}", true },
        { "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1&2\\end{pmatrix}", false },
        { "3 \\pm \\sqrt2", "3-\\sqrt{2}, 3+\\sqrt{2}", true },
        { "\\text{(C)}", "C", true },
        { "even", "odd", false },
        { "5", "", false },
        { "42", "41 is wrong, 42 is right, or is it 43", false },
    };

    [Theory, MemberData(nameof(Pairs))]
    public void Match_of_a_gold_answer_with_a_prediction(string gold, string prediction, bool expected) =>
        Assert.Equal(expected, MathAnswers.Match(gold, prediction));

    public static readonly TheoryData<string> Kinds = [.. GradedPairs.Kinds()];

    [Theory, MemberData(nameof(Kinds))]
    public void Match_of_graded_pairs_of_a_kind(string kind) =>
        Assert.Equal(
            [],
            GradedPairs
                .OfKind(kind)
                .Where(p => MathAnswers.Match(p.Gold, p.Prediction, calculated: true) != p.Same)
                .Select(p => $"{p.Gold}  ~  {p.Prediction}: expected {p.Same}")
        );

    [Fact]
    public void Match_of_numbers_and_expressions_is_symmetric()
    {
        // Words and units are lenient to the answer only; without them neither side matters
        var pairs = GradedPairs
            .OfKind("letters side by side and signs")
            .Concat(GradedPairs.OfKind("functions and factorials"));
        Assert.Equal(
            [],
            pairs
                .Where(p => MathAnswers.Match(p.Gold, p.Prediction) != MathAnswers.Match(p.Prediction, p.Gold))
                .Select(p => $"{p.Gold}  ~  {p.Prediction}")
        );
    }
}
