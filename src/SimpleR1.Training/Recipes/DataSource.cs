using System.ComponentModel;
using SimpleR1.Training.Data;
using SimpleR1.Training.Data.Rows;
using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Training.Recipes;

public sealed record DataSection : IRecipeSection
{
    [Description("Problems to train on: a source, or a list of sources with weights.")]
    public required DataSource Train { get; init; }

    [Description("Held-out problems: a source, or a list of sources, each of which has figures of its own.")]
    public DataSource? Evaluation { get; init; }

    public IEnumerable<Conflict> Validate() =>
        Evaluation is { } evaluation ? [.. WeightConflicts(evaluation), .. NameConflicts(evaluation)] : [];

    private static IEnumerable<Conflict> WeightConflicts(DataSource evaluation)
    {
        for (int i = 0; i < evaluation.Sources.Count; i++)
            if (evaluation.Sources[i].Weight is not null)
                yield return new(
                    "held-out problems are all answered, so a weight means nothing; remove it, or use take",
                    $"evaluation.sources.{i}.weight"
                );
    }

    /// <summary>A set's name is part of names of metrics, which end otherwise where they are ends of an interval.</summary>
    private static IEnumerable<Conflict> NameConflicts(DataSource evaluation)
    {
        var sets = DataMix.Sets(evaluation);
        for (int i = 0; i < sets.Count; i++)
            if (sets.Any(s => sets[i] == s + EvaluationScores.Low || sets[i] == s + EvaluationScores.High))
                yield return new(
                    $"'{sets[i]}' would have the metrics of another set's interval; give the set another name",
                    $"evaluation.sources.{i}.name"
                );
    }
}

/// <summary>How a row becomes a question and a gold answer.</summary>
public enum DataFormat
{
    Auto,
    Plain,
    Gsm8k,
    Countdown,
}

/// <summary>Where problems come from: files, a built-in generator, or several of those.</summary>
[BareList(nameof(Sources))]
public sealed record DataSource : IRecipeSection
{
    [Description(
        "A file (.jsonl, .json, .csv, .tsv, .parquet; text also with .gz), a pattern such as data/train-*.parquet, or the "
            + "folder of a Hugging Face dataset. docs/data.md has formats and layouts."
    )]
    public string? Path { get; init; }

    [Description("Of a folder or pattern with several splits, the one to read: `train`, `test`, `validation`.")]
    public string? Split { get; init; }

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
        "`gsm8k` takes the gold answer after the last ####; `countdown` has nums and target; `auto` looks at the rows."
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

    [Description(
        "Stop when a row has no question or no answer; else such rows are counted, named at the start, and left out."
    )]
    public bool RequireComplete { get; init; }

    [Description(
        "What the log calls this source, and metrics if it is one of several in evaluation; without it the generator's or the "
            + "file's name."
    )]
    public string? Name { get; init; }

    [Description(
        "Of several sources, how often this one is drawn, in proportion to the other weights. Without weights all rows are "
            + "shuffled together."
    )]
    [Limits(Above = 0)]
    public double? Weight { get; init; }

    [Description("Several sources, instead of path and generator.")]
    public ValueList<DataSource> Sources { get; init; } = [];

    public IEnumerable<Conflict> Validate() => Sources.Count > 0 ? MixConflicts() : SourceConflicts();

    private IEnumerable<Conflict> MixConflicts()
    {
        if (this with { Sources = [] } != new DataSource())
            yield return new("a list of sources has no keys beside it; write them into each source", "sources");
        for (int i = 0; i < Sources.Count; i++)
        {
            var source = Sources[i];
            if (source.Sources.Count > 0)
                yield return new("a source in a list can't be a list itself", $"sources.{i}");
            if (source.Weight is null != Sources[0].Weight is null)
                yield return new("give every source a weight, or none", $"sources.{i}.weight", "sources.0.weight");
            if (source.Name is not null && Sources.Take(i).Any(s => s.Name == source.Name))
                yield return new($"two sources are called '{source.Name}'", $"sources.{i}.name");
        }
    }

    private IEnumerable<Conflict> SourceConflicts() => [.. PathConflicts(), .. GeneratorConflicts()];

    private IEnumerable<Conflict> PathConflicts()
    {
        if (Path is null && Generator is null)
            yield return new("give 'path' (a file or folder), 'generator', or a list of sources", "path", "generator");
        if (Path is not null && Generator is not null)
            yield return new("'path' and 'generator' exclude each other; keep one", "path", "generator");
        if (Path is not null && !HasFormat(Path))
            yield return new($"expected a folder, or a file of {RowReader.Formats}, found '{Path}'", "path");
        if (Path is not null && Generator is null && Count is not null)
            yield return new("count belongs to a generator; for a file use take", "count", "path");
        if (Split is not null && Generator is not null)
            yield return new("split belongs to a folder; use skip and take for a generator", "split", "generator");
    }

    /// <summary>Whether a path may be right: a name without an extension is a folder's.</summary>
    private static bool HasFormat(string path) =>
        RowReader.Extension(path) is not null
        || System.IO.Path.GetExtension(path) == ""
        || DataFiles.IsPattern(path)
        || Directory.Exists(path);

    private IEnumerable<Conflict> GeneratorConflicts()
    {
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
        "Column of the question, or text around columns in braces, such as \"{Body} {Question}\"; {{ is a brace. Names "
            + "with dots are nested: extra_info.question. It may hold messages. Without it: question, problem, prompt, … "
            + "Empty (\"\") when rows are text without a question."
    )]
    public string? Question { get; init; }

    [Description(
        "Column of the gold answer, or for `sft` of the text to learn. Without it: answer, reward_model.ground_truth, "
            + "solution, target, … Empty (\"\") when rows have no gold answer and no reward needs one."
    )]
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
