using System.Globalization;

namespace SimpleR1.Training.Data;

/// <summary>
/// The documents that the tiny base model of the quickstart is pretrained on, made up by rules: textbook drills of sums and differences, and
/// a forum's worth of questions answered in every style and with many mistakes. A model of this text knows its arithmetic and has seen
/// careful answers, but most of what it imitates is careless or badly formatted: what reinforcement learning starts from.
/// </summary>
public static class ArithmeticCorpus
{
    /// <summary>Which kinds of documents there are, and how often. They add up to 1.</summary>
    private static readonly (double Share, Func<Random, string> Make)[] Kinds =
    [
        (0.40, Drill),     // a line of a textbook: right
        (0.08, Careful),   // works step by step inside the tags: mostly right
        (0.14, Lazy),      // the tags without the work: mostly wrong
        (0.20, Bare),      // a number, nothing else
        (0.10, Chatty),    // a sentence
        (0.08, Broken),    // tags that are not closed, missing or in the wrong order
    ];

    /// <summary>A three-term problem: its text and value. Values and intermediate results are between 0 and 199.</summary>
    public static (string Question, int[] Terms, int Value) Problem(Random random)
    {
        while (true)
        {
            int a = random.Next(1, 100), b = Signed(random), c = Signed(random);
            if (a + b is >= 0 and <= 199 && a + b + c is >= 0 and <= 199)
                return ($"{a}{b:+0;-0}{c:+0;-0}", [a, b, c], a + b + c);
        }
        static int Signed(Random r) => r.Next(2) == 0 ? r.Next(1, 100) : -r.Next(1, 100);
    }

    /// <summary>The text of document <paramref name="index"/>: the same for the same seed and index.</summary>
    public static string Document(ulong seed, long index)
    {
        var random = new Random(HashCode(seed, index));
        double pick = random.NextDouble();
        foreach (var (share, make) in Kinds)
        {
            if (pick < share) return make(random);
            pick -= share;
        }
        return Kinds[0].Make(random);
    }

    /// <summary>The prompt that precedes an answer: the quickstart's template.</summary>
    public static string Prompt(string question) => $"Q: {question}\nA:";

    private static string Drill(Random random)
    {
        var lines = Enumerable.Range(0, 4).Select(_ =>
        {
            while (true)
            {
                int a = random.Next(0, 200), b = random.Next(1, 100) * (random.Next(2) * 2 - 1);
                if (a + b is >= 0 and <= 199) return $"{a}{b:+0;-0}={a + b}";
            }
        });
        return string.Join(' ', lines);
    }

    private static string Careful(Random random)
    {
        var (question, terms, _) = Problem(random);
        int first = Slip(random, terms[0] + terms[1], 0.04), second = Slip(random, first + terms[2], 0.04);
        return $"{Prompt(question)}<think>{terms[0]}{terms[1]:+0;-0}={first} {first}{terms[2]:+0;-0}={second}</think><answer>{second}</answer>";
    }

    private static string Lazy(Random random)
    {
        var (question, _, value) = Problem(random);
        string thought = Pick(random, "easy", "let me see", "I know this", "hmm");
        return $"{Prompt(question)}<think>{thought}</think><answer>{Slip(random, value, 0.8)}</answer>";
    }

    private static string Bare(Random random)
    {
        var (question, _, value) = Problem(random);
        return $"{Prompt(question)} {Slip(random, value, 0.5)}";
    }

    private static string Chatty(Random random)
    {
        var (question, _, value) = Problem(random);
        string text = Slip(random, value, 0.5).ToString(CultureInfo.InvariantCulture);
        return Prompt(question) + Pick(random, $" I think it is {text}.", $" The answer is {text}", $" {text}, of course!", " no idea");
    }

    private static string Broken(Random random)
    {
        var (question, terms, value) = Problem(random);
        int first = terms[0] + terms[1], said = Slip(random, value, 0.4);
        return Prompt(question) + Pick(random, $"<think>{terms[0]}{terms[1]:+0;-0}={first} {first}{terms[2]:+0;-0}={said}</think> {said}", $"<answer>{said}</answer>",
            $"<think>{terms[0]}{terms[1]:+0;-0}={first}", $"<answer>{said}</answer><think>done</think>", $"<think>{said}</think>");
    }

    /// <summary>With this probability, a number near the right one instead of it.</summary>
    private static int Slip(Random random, int value, double probability)
    {
        if (random.NextDouble() >= probability) return value;
        int wrong = value + Pick(random, -20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20);
        return wrong < 0 ? value + 1 : wrong;
    }

    private static T Pick<T>(Random random, params T[] of) => of[random.Next(of.Length)];

    private static int HashCode(ulong seed, long index)
    {
        ulong x = seed * 0x9E3779B97F4A7C15 + (ulong)index * 0xD6E8FEB86659FD93 + 0x632BE59BD9B4E019;
        x = (x ^ x >> 32) * 0xD6E8FEB86659FD93;
        x = (x ^ x >> 32) * 0xD6E8FEB86659FD93;
        return (int)(x ^ x >> 32);
    }
}
