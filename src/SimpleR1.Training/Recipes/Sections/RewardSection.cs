using System.ComponentModel;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>One entry of <c>rewards</c>.</summary>
public sealed record RewardSection : IRecipeSection
{
    [Description("A built-in reward (`format`, `accuracy`, `countdown`), or the method's name in `file`.")]
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
            + "rewards when none does. Without it: true for `accuracy` and `countdown`."
    )]
    public bool? JudgesAnswers { get; init; }

    [Description("`accuracy` only: without an answer block or \\boxed{}, take the last number.")]
    public bool AcceptLastNumber { get; init; }

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

    public IEnumerable<Conflict> Validate()
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
        if (AcceptLastNumber && (File is not null || Name != "accuracy"))
            yield return new("only the accuracy reward has this option", "accept_last_number", "name");
    }
}
