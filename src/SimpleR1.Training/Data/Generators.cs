using System.Globalization;
using System.Text.Json.Nodes;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data;

/// <summary>Built-in problem generators. A seed gives the same problems everywhere; no question comes twice.</summary>
public static class Generators
{
    private delegate Problem Generator(ref SplitMix64 random, GeneratorOptions options);

    private static readonly Dictionary<string, Generator> ByName = new()
    {
        ["arithmetic"] = Arithmetic,
        ["countdown"] = Countdown,
        ["arithmetic-steps"] = ArithmeticCorpus.Steps,
        ["arithmetic-corpus"] = ArithmeticCorpus.Document,
    };

    /// <summary>Names that a recipe can give.</summary>
    public static IReadOnlyCollection<string> Names => ByName.Keys;

    /// <summary><paramref name="count"/> different problems; the first n are the same for every count.</summary>
    /// <exception cref="ArgumentException">
    /// The generator is unknown, or its options allow fewer different problems.
    /// </exception>
    public static IReadOnlyList<Problem> Make(string name, int count, ulong seed, GeneratorOptions? options = null)
    {
        if (!ByName.TryGetValue(name, out var generator))
            throw new ArgumentException($"no generator is called '{name}'; there are {string.Join(", ", Names)}");
        var random = new SplitMix64(SplitMix64.Mix(seed));
        var problems = new List<Problem>(count);
        var seen = new HashSet<string>();
        for (int misses = 0; problems.Count < count; )
        {
            var problem = generator(ref random, options ?? new());
            if (seen.Add(problem.Question.Length > 0 ? problem.Question : problem.Answer)) // a document has no question
            {
                problems.Add(problem);
                misses = 0;
            }
            else if (++misses > 10_000)
                throw new ArgumentException(
                    $"the options of '{name}' allow about {problems.Count} different problems, not {count}; "
                        + "ask for fewer or widen the options"
                );
        }
        return problems;
    }

    /// <summary>"What is 12 + 34?" with the products first, as usual.</summary>
    private static Problem Arithmetic(ref SplitMix64 random, GeneratorOptions options)
    {
        int limit = (int)Math.Pow(10, options.Digits);
        var numbers = new int[options.Terms];
        for (int i = 0; i < numbers.Length; i++)
            numbers[i] = random.Next(limit);
        string expression = numbers[0].ToString(CultureInfo.InvariantCulture);
        System.Numerics.BigInteger sum = 0;
        System.Numerics.BigInteger product = numbers[0];
        for (int i = 1; i < numbers.Length; i++)
        {
            char operation = options.Operations[random.Next(options.Operations.Length)];
            expression += $" {operation} {numbers[i]}";
            if (operation == '*')
            {
                product *= numbers[i];
                continue;
            }
            sum += product;
            product = operation == '+' ? numbers[i] : -numbers[i];
        }
        string answer = (sum + product).ToString(CultureInfo.InvariantCulture);
        return new(
            $"What is {expression}?",
            answer,
            new Dictionary<string, JsonNode?> { ["expression"] = expression, ["answer"] = answer }
        );
    }

    /// <summary>Numbers and a target that they reach: the value of a random expression over all of them.</summary>
    private static Problem Countdown(ref SplitMix64 random, GeneratorOptions options)
    {
        for (int tries = 0; tries < 1_000_000; tries++)
        {
            var numbers = new int[random.Next(options.MinNumbers, options.MaxNumbers)];
            for (int i = 0; i < numbers.Length; i++)
                numbers[i] = random.Next(1, options.MaxNumber);
            if (RandomValue(ref random, numbers) is not { } target || target < 1 || target > options.MaxTarget)
                continue;
            string goal = target.ToString(CultureInfo.InvariantCulture);
            return new(
                CountdownQuestion(numbers.Select(n => n.ToString(CultureInfo.InvariantCulture)), goal),
                goal,
                new Dictionary<string, JsonNode?>
                {
                    ["nums"] = new JsonArray([.. numbers.Select(n => (JsonNode)n)]),
                    ["target"] = (int)target,
                }
            );
        }
        throw new ArgumentException(
            $"no countdown problem found with {options}; allow larger targets or fewer numbers"
        );
    }

    /// <summary>
    /// Joins two random numbers by a random operation until one is left; null when a step leaves the whole numbers.
    /// </summary>
    private static long? RandomValue(ref SplitMix64 random, int[] numbers)
    {
        var left = numbers.Select(n => (long)n).ToList();
        while (left.Count > 1)
        {
            long a = Take(ref random, left);
            long b = Take(ref random, left);
            long? joined = random.Next(4) switch
            {
                0 => a + b,
                1 => a - b,
                2 => a * b,
                _ => b != 0 && a % b == 0 ? a / b : null,
            };
            if (joined is not { } value || Math.Abs(value) > 1_000_000)
                return null;
            left.Add(value);
        }
        return left[0];
    }

    private static long Take(ref SplitMix64 random, List<long> numbers)
    {
        int index = random.Next(numbers.Count);
        long value = numbers[index];
        numbers.RemoveAt(index);
        return value;
    }

    /// <summary>The text of a countdown problem: TinyZero's, with "each number exactly once" said plainly.</summary>
    internal static string CountdownQuestion(IEnumerable<string> numbers, string target) =>
        $"Using the numbers [{string.Join(", ", numbers)}], create an expression that equals {target}. "
        + "You can use the basic operations (+, -, *, /) and parentheses, and must use each number exactly once.";
}
