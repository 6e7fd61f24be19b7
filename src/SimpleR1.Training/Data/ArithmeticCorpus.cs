using System.Globalization;
using System.Text.Json.Nodes;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data;

/// <summary>
/// The problems of the quickstart, and the documents that its tiny base model is pretrained on: textbook drills of sums
/// and differences, and a forum's worth of questions answered in every style and with many mistakes. A model of this
/// text knows its arithmetic and has seen careful answers, but most of what it imitates is careless or badly formatted.
/// Reinforcement learning starts from there.
/// </summary>
internal static class ArithmeticCorpus
{
    private const int Limit = 199; // values and intermediate results are between 0 and this

    private delegate string Maker(ref SplitMix64 random);

    /// <summary>Kinds of documents with their shares, which add up to 1.</summary>
    private static readonly (double Share, Maker Make)[] Kinds =
    [
        (0.40, Drill), // a line of a textbook, always right
        (0.08, Careful), // works step by step inside the tags, mostly right
        (0.14, Lazy), // the tags without the work, mostly wrong
        (0.20, Bare), // a number and nothing else
        (0.10, Chatty), // a sentence
        (0.08, Broken), // tags that are not closed, missing or in the wrong order
    ];

    /// <summary>"12+30-5", with its value.</summary>
    public static Problem Steps(ref SplitMix64 random, GeneratorOptions options)
    {
        var (question, _, value) = Question(ref random);
        string answer = value.ToString(CultureInfo.InvariantCulture);
        return new(
            question,
            answer,
            new Dictionary<string, JsonNode?> { ["question"] = question, ["answer"] = answer }
        );
    }

    /// <summary>A document, as a problem without a question: all of it is answer.</summary>
    public static Problem Document(ref SplitMix64 random, GeneratorOptions options)
    {
        double pick = random.NextDouble();
        int kind = 0;
        while (kind < Kinds.Length - 1 && pick >= Kinds[kind].Share)
            pick -= Kinds[kind++].Share;
        string text = Kinds[kind].Make(ref random);
        return new("", text, new Dictionary<string, JsonNode?> { ["answer"] = text });
    }

    private static (string Text, int[] Terms, int Value) Question(ref SplitMix64 random)
    {
        while (true)
        {
            int a = random.Next(1, 99);
            int b = Signed(ref random);
            int c = Signed(ref random);
            if (a + b is >= 0 and <= Limit && a + b + c is >= 0 and <= Limit)
                return ($"{a}{b:+0;-0}{c:+0;-0}", [a, b, c], a + b + c);
        }
    }

    /// <summary>The quickstart's template.</summary>
    private static string Prompt(string question) => $"Q: {question}\nA:";

    private static string Drill(ref SplitMix64 random)
    {
        var lines = new List<string>();
        while (lines.Count < 4)
        {
            int a = random.Next(0, Limit);
            int b = Signed(ref random);
            if (a + b is >= 0 and <= Limit)
                lines.Add($"{a}{b:+0;-0}={a + b}");
        }
        return string.Join(' ', lines);
    }

    private static string Careful(ref SplitMix64 random)
    {
        var (question, terms, _) = Question(ref random);
        int first = Slip(ref random, terms[0] + terms[1], 0.04);
        int second = Slip(ref random, first + terms[2], 0.04);
        string thought = $"{terms[0]}{terms[1]:+0;-0}={first} {first}{terms[2]:+0;-0}={second}";
        return $"{Prompt(question)}<think>{thought}</think><answer>{second}</answer>";
    }

    private static string Lazy(ref SplitMix64 random)
    {
        var (question, _, value) = Question(ref random);
        string thought = Pick(ref random, "easy", "let me see", "I know this", "hmm");
        return $"{Prompt(question)}<think>{thought}</think><answer>{Slip(ref random, value, 0.8)}</answer>";
    }

    private static string Bare(ref SplitMix64 random)
    {
        var (question, _, value) = Question(ref random);
        return $"{Prompt(question)} {Slip(ref random, value, 0.5)}";
    }

    private static string Chatty(ref SplitMix64 random)
    {
        var (question, _, value) = Question(ref random);
        int said = Slip(ref random, value, 0.5);
        return Prompt(question)
            + Pick(ref random, $" I think it is {said}.", $" The answer is {said}", $" {said}, of course!", " no idea");
    }

    private static string Broken(ref SplitMix64 random)
    {
        var (question, terms, value) = Question(ref random);
        int first = terms[0] + terms[1];
        int said = Slip(ref random, value, 0.4);
        return Prompt(question)
            + Pick(
                ref random,
                $"<think>{terms[0]}{terms[1]:+0;-0}={first} {first}{terms[2]:+0;-0}={said}</think> {said}",
                $"<answer>{said}</answer>",
                $"<think>{terms[0]}{terms[1]:+0;-0}={first}",
                $"<answer>{said}</answer><think>done</think>",
                $"<think>{said}</think>"
            );
    }

    private static int Signed(ref SplitMix64 random) => random.Next(1, 99) * (random.Next(2) == 0 ? 1 : -1);

    /// <summary>The value, or with this probability a wrong number near it.</summary>
    private static int Slip(ref SplitMix64 random, int value, double probability)
    {
        if (random.NextDouble() >= probability)
            return value;
        int wrong = value + Pick(ref random, -20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20);
        return wrong < 0 ? value + 1 : wrong;
    }

    private static T Pick<T>(ref SplitMix64 random, params ReadOnlySpan<T> choices) =>
        choices[random.Next(choices.Length)];
}
