using System.ComponentModel;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>One entry of <c>rewards</c>.</summary>
[BareName(nameof(Name))]
public sealed record RewardSection : IRecipeSection
{
    [Description(
        "A built-in reward (`format`, `accuracy`, `countdown`, `overlong`, `random`), or the method's name in `file`."
    )]
    public required string Name { get; init; }

    [Description("Factor in the sum; negative for a penalty.")]
    public double Weight { get; init; } = 1;

    [Description(
        "A C# file with a public static method `double Name(RewardInput input)`, or with one of the forms for rewards that "
            + "wait or that see a prompt's whole group (docs/changing.md)."
    )]
    public string? File { get; init; }

    [Description(
        "Whether the reward judges answers: `accuracy` in the metrics counts samples with full marks by all that do, or by all "
            + "others when none does. Without it: true for `accuracy` and `countdown`, false for `overlong` and `random`."
    )]
    public bool? JudgesAnswers { get; init; }

    [Description("`accuracy` only: without an answer block or \\boxed{}, take the last number.")]
    public bool AcceptLastNumber { get; init; }

    [Description("`overlong` only: completions of up to so many tokens lose nothing.")]
    [Limits(AtLeast = 0)]
    public int? SoftLimit { get; init; }

    [Description(
        "`overlong` only: at so many tokens the reward is -1; between the limits it falls in a straight line."
    )]
    [Limits(AtLeast = 1)]
    public int? HardLimit { get; init; }

    [Description("Longest time of one call, in seconds. After 5 of them the log names the reward and the completion.")]
    [Limits(Above = 0, AtMost = 86_400)]
    public double TimeoutSeconds { get; init; } = 60;

    [Description(
        "At the time limit: `stop` ends the run with an error, `zero` pays 0 and counts it as timed_out_rewards. A call that "
            + "ignores its cancellation keeps its thread either way; 32 of them end the run."
    )]
    public TimeoutAction OnTimeout { get; init; }

    [Description("Calls at once of an asynchronous reward; others are called one at a time.")]
    [Limits(AtLeast = 1, AtMost = 4096)]
    public int Concurrency { get; init; } = 16;

    internal RewardLimits Limits =>
        new()
        {
            Timeout = TimeSpan.FromSeconds(TimeoutSeconds),
            OnTimeout = OnTimeout,
            Concurrency = Concurrency,
        };

    private bool IsBuiltIn(string name) => File is null && Name == name;

    public IEnumerable<Conflict> Validate() => [.. NameConflicts(), .. LimitConflicts()];

    private IEnumerable<Conflict> NameConflicts()
    {
        if (File is null && !BuiltInRewards.Names.Contains(Name))
            yield return new(
                RecipeNames.Unknown(
                    "built-in reward",
                    Name,
                    BuiltInRewards.Names,
                    "; for a custom reward, give 'file'"
                ),
                "name"
            );
        if (AcceptLastNumber && !IsBuiltIn("accuracy"))
            yield return new("only the accuracy reward has this option", "accept_last_number", "name");
    }

    private IEnumerable<Conflict> LimitConflicts()
    {
        bool needed = IsBuiltIn("overlong");
        foreach (var (key, limit) in new[] { ("soft_limit", SoftLimit), ("hard_limit", HardLimit) })
        {
            if (needed && limit is null)
                yield return new("the overlong reward needs it, in tokens: {soft_limit: 192, hard_limit: 256}", key);
            if (!needed && limit is not null)
                yield return new("only the overlong reward has this option", key, "name");
        }
        if (SoftLimit >= HardLimit)
            yield return new($"{SoftLimit} is not below the hard limit of {HardLimit}", "soft_limit", "hard_limit");
    }
}
