using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rewards.Mathematics;
using Xunit;

namespace SimpleR1.Tests.Training.Rewards;

/// <summary>
/// How often the answer checker agrees with graded pairs. The output of each test is a row of the table in
/// docs/correctness.md.
/// </summary>
public sealed partial class AgreementTests(ITestOutputHelper output)
{
    private const double Least = 0.98;

    [Fact]
    public void Pairs_of_math_verify_are_graded_as_there() =>
        Report(
            "Math-Verify's graded pairs",
            File.ReadLines(SharedData.Require("math_verify_cases.jsonl"))
                .Select(line => JsonNode.Parse(line)!)
                .Select(c =>
                    (
                        (string)c["gold"]!,
                        (string)c["pred"]!,
                        (int)c["expected"]! == 1,
                        MathAnswers.Match((string)c["gold"]!, (string)c["pred"]!, (int?)c["precision"] ?? 6)
                    )
                )
        );

    [Fact]
    public void Answers_of_math500_in_other_forms_are_accepted() =>
        Report("MATH-500 in other forms", Math500().SelectMany(g => Forms(g).Select(f => Accuracy(g, f, true))));

    [Fact]
    public void Answers_of_math500_that_were_made_wrong_are_rejected() =>
        Report(
            "MATH-500 made wrong",
            Math500().SelectMany(g => Wrong(g).Select(w => Accuracy(g, $"<answer>{w}</answer>", false)))
        );

    [Fact]
    public void Answers_of_other_problems_of_math500_are_rejected()
    {
        string[] golds = [.. Math500()];
        Report(
            "MATH-500 with each other",
            from i in Enumerable.Range(0, golds.Length)
            from j in Enumerable.Range(i + 1, Math.Min(30, golds.Length - i - 1))
            where Bare(golds[i]) != Bare(golds[j])
            select (golds[i], golds[j], false, MathAnswers.Match(golds[i], golds[j]))
        );
    }

    [Fact]
    public void Answers_of_gsm8k_in_other_forms_are_accepted() =>
        Report("GSM8K in other forms", Gsm8k().SelectMany(g => NumberForms(g).Select(f => Accuracy(g, f, true))));

    [Fact]
    public void Answers_of_gsm8k_that_were_made_wrong_are_rejected() =>
        Report(
            "GSM8K made wrong",
            Gsm8k().SelectMany(g => WrongNumbers(g).Select(w => Accuracy(g, $"<answer>{w}</answer>", false)))
        );

    private void Report(string set, IEnumerable<(string Gold, string Prediction, bool Expected, bool Found)> pairs)
    {
        var all = pairs.ToList();
        var different = all.Where(p => p.Expected != p.Found).ToList();
        int agreed = all.Count - different.Count;
        double share = (double)agreed / all.Count;
        output.WriteLine(FormattableString.Invariant($"| {set} | {all.Count:N0} | {agreed:N0} | {100 * share:F1}% |"));
        foreach (var (gold, prediction, expected, _) in different.Take(200))
            output.WriteLine($"  expected {expected}: {Tail(gold)}  ~  {Tail(prediction)}");
        Assert.InRange(share, Least, 1);
    }

    private static (string, string, bool, bool) Accuracy(string gold, string completion, bool expected)
    {
        var problem = new SimpleR1.Training.Data.Problem("?", gold, new Dictionary<string, JsonNode?>());
        return (gold, completion, expected, BuiltInRewards.Accuracy(new(problem, completion, false)) == 1);
    }

    private static IEnumerable<string> Math500() =>
        File.ReadLines(SharedData.Require("math500/test.jsonl"))
            .Select(line => (string)JsonNode.Parse(line)!["answer"]!);

    private static IEnumerable<string> Gsm8k() =>
        File.ReadLines(SharedData.Require("gsm8k/test.jsonl"))
            .Select(line => (string)JsonNode.Parse(line)!["answer"]!)
            .Select(answer => answer[(answer.LastIndexOf("####", StringComparison.Ordinal) + 4)..].Trim());

    private static IEnumerable<string> Forms(string gold)
    {
        yield return $"so it is \\boxed{{{gold}}}.";
        yield return $"<think>\\boxed{{0}}</think> <answer>{gold}</answer>";
        yield return $"<answer>${gold}$</answer>";
        yield return $"<answer> $ {gold} $. </answer>";
        yield return $"<answer>\\({gold}\\)</answer>";
        yield return $"<answer>\\[\n{gold}\n\\]</answer>";
        yield return $"<answer>The answer is ${gold}$.</answer>";
        yield return $"<answer>**${gold}$**</answer>";
        yield return $"<answer>#### {gold}</answer>";
        yield return $"<answer>= {gold}</answer>";
        yield return $"<answer>Answer: ${gold}$</answer>";
        yield return $"<answer>`{gold}`</answer>";
        yield return $"<answer>{gold.Replace(" ", "")}</answer>";
        yield return $"<answer>{gold.Replace("\\frac{", "\\dfrac{")}</answer>";
        yield return $"<answer>{gold.Replace("(", "\\left(").Replace(")", "\\right)")}</answer>";
        yield return $"<answer>{gold.Replace(",", " , ").Replace("+", " + ")}</answer>";
    }

    private static IEnumerable<string> Wrong(string gold)
    {
        if (Digit().Match(gold) is { Success: true } digit)
            yield return gold[..digit.Index]
                + (char)('0' + (digit.Value[0] - '0' + 1) % 10)
                + gold[(digit.Index + 1)..];
        if (
            gold.Any(char.IsAsciiDigit)
            && gold[0] is not ('-' or '\\' or '(' or '[' or 'x' or 'y')
            && gold.Trim('0', '.') != ""
        )
            yield return "-" + (gold.IndexOfAny(['+', '-', ',', '/', '=']) >= 0 ? $"({gold})" : gold);
        yield return $"not {gold}";
    }

    private static IEnumerable<string> NumberForms(string gold)
    {
        string digits = gold.Replace(",", "");
        yield return $"<answer>{gold}</answer>";
        yield return $"<answer>{digits}</answer>";
        yield return $"<answer>${digits}</answer>";
        yield return $"<answer>**{gold}**</answer>";
        yield return $"<answer>The answer is {gold}.</answer>";
        yield return $"<answer>She has {gold} apples left.</answer>";
        yield return $"<answer>He pays $3 and she pays $4, so it is ${gold}.</answer>";
        yield return $"<answer>{digits}.0</answer>";
        yield return $"<answer>{gold} miles per hour</answer>";
        yield return $"<answer>x = {digits}</answer>";
        yield return $"we get \\boxed{{{gold}\\text{{ cm}}}}";
    }

    private static IEnumerable<string> WrongNumbers(string gold)
    {
        string digits = gold.Replace(",", "");
        yield return $"{digits}1";
        yield return $"{digits}.5";
        yield return $"{digits},000,000";
        yield return $"{digits} million";
        yield return $"{digits}x";
        yield return $"A{digits}";
        yield return $"not {gold}";
        yield return $"{digits} + 1";
        yield return $"{gold} or {digits}1";
        if (digits.Trim('0') != "")
            yield return digits[0] == '-' ? digits[1..] : $"-{digits}";
    }

    /// <summary>Without unknowns' names, units, degrees and spaces: what two golds may differ by and still be equal.</summary>
    private static string Bare(string gold) => Difference().Replace(gold, "");

    private static string Tail(string text) => (text.Length <= 120 ? text : "…" + text[^120..]).Replace('\n', ' ');

    [GeneratedRegex(@"^x=|\\mbox\{.*|\^\\circ|\\\$|\s")]
    private static partial Regex Difference();

    [GeneratedRegex(@"\d")]
    private static partial Regex Digit();
}
