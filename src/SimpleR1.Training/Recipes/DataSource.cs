using System.ComponentModel;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Recipes;

public sealed record DataSection
{
    [Description("Problems to train on.")]
    public required DataSource Train { get; init; }

    [Description("Held-out problems.")]
    public DataSource? Evaluation { get; init; }
}

/// <summary>How a row becomes a question and a gold answer.</summary>
public enum DataFormat
{
    Auto,
    Plain,
    Gsm8k,
    Countdown,
}

/// <summary>Where problems come from: a file or a built-in generator.</summary>
public sealed record DataSource : IRecipeSection
{
    [Description("A .jsonl or .parquet file.")]
    public string? Path { get; init; }

    [Description("A built-in generator, `arithmetic` or `countdown`; instead of path.")]
    public string? Generator { get; init; }

    [Description(
        "Problems that the generator makes, all different. The first n are the same whatever the count, so `skip` gives "
            + "held-out ones."
    )]
    [Limits(AtLeast = 1)]
    public int? Count { get; init; }

    [Description("Seed of the generator and of shuffle.")]
    public ulong Seed { get; init; } = 1;

    [Description("What the generator makes.")]
    public GeneratorOptions Options { get; init; } = new();

    [Description("Names of the columns.")]
    public DataColumns Columns { get; init; } = new();

    [Description(
        "`gsm8k` takes the gold answer after the last ####; `countdown` has nums and target; `auto` looks at the first row."
    )]
    public DataFormat Format { get; init; } = DataFormat.Auto;

    [Description("Put rows in a random order, before skip and take.")]
    public bool Shuffle { get; init; }

    [Description("Rows left out at the start.")]
    [Limits(AtLeast = 0)]
    public int Skip { get; init; }

    [Description("Rows used after those; without it all.")]
    [Limits(AtLeast = 1)]
    public int? Take { get; init; }

    public IEnumerable<Conflict> Validate()
    {
        if (Path is null && Generator is null)
            yield return new("give 'path' (a file) or 'generator'", "path", "generator");
        if (Path is not null && Generator is not null)
            yield return new("'path' and 'generator' exclude each other; keep one", "path", "generator");
        if (Path is not null && System.IO.Path.GetExtension(Path) is not (".jsonl" or ".parquet"))
            yield return new($"expected a .jsonl or .parquet file, found '{Path}'", "path");
        if (Path is not null && Generator is null && Count is not null)
            yield return new("count belongs to a generator; for a file use take", "count", "path");
        if (Generator is not null && !Generators.Names.Contains(Generator))
            yield return new(
                $"no generator is called '{Generator}' (there are {string.Join(", ", Generators.Names)})",
                "generator"
            );
        if (Generator is not null && Count is null)
            yield return new("a generator needs 'count'", "count", "generator");
        if (Count is { } count && Skip >= count)
            yield return new($"nothing is left of {count} problems after {Skip}", "skip", "count");
        if (Count is { } made && Take is { } take && (long)Skip + take > made)
            yield return new(
                $"{Skip} skipped and {take} taken are more than the {made} generated",
                "take",
                "skip",
                "count"
            );
    }
}

public sealed record DataColumns
{
    [Description(
        "Column of the question, or text around columns in braces, such as \"{Body} {Question}\". Without it: question, "
            + "problem, prompt. Empty (\"\") when rows are text without a question."
    )]
    public string? Question { get; init; }

    [Description("Column of the gold answer. Without it: answer, solution, target.")]
    public string? Answer { get; init; }
}

/// <summary>Options of the built-in generators.</summary>
public sealed record GeneratorOptions : IRecipeSection
{
    [Description("`arithmetic`: most digits of a number.")]
    [Limits(AtLeast = 1, AtMost = 9)]
    public int Digits { get; init; } = 2;

    [Description("`arithmetic`: numbers in a problem.")]
    [Limits(AtLeast = 2, AtMost = 8)]
    public int Terms { get; init; } = 2;

    [Description("`arithmetic`: operations drawn from, out of `+-*`.")]
    public string Operations { get; init; } = "+-";

    [Description("`countdown`: fewest numbers.")]
    [Limits(AtLeast = 2, AtMost = 6)]
    public int MinNumbers { get; init; } = 3;

    [Description("`countdown`: most numbers.")]
    [Limits(AtLeast = 2, AtMost = 6)]
    public int MaxNumbers { get; init; } = 4;

    [Description("`countdown`: largest number.")]
    [Limits(AtLeast = 2, AtMost = 10_000)]
    public int MaxNumber { get; init; } = 99;

    [Description("`countdown`: largest target.")]
    [Limits(AtLeast = 1, AtMost = 1_000_000)]
    public int MaxTarget { get; init; } = 100;

    public IEnumerable<Conflict> Validate()
    {
        if (Operations == "" || Operations.Any(c => !"+-*".Contains(c)))
            yield return new($"expected some of + - *, found '{Operations}'", "operations");
        if (MinNumbers > MaxNumbers)
            yield return new(
                $"the fewest numbers, {MinNumbers}, are more than the most, {MaxNumbers}",
                "min_numbers",
                "max_numbers"
            );
    }
}
