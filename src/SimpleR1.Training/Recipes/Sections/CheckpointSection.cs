using System.ComponentModel;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>Which values of a metric are better.</summary>
public enum Best
{
    Highest,
    Lowest,
}

/// <summary>The <c>checkpoint</c> section.</summary>
public sealed record CheckpointSection
{
    [Description(
        "Keep the checkpoint of the best evaluation by this metric, such as `evaluation_accuracy`, beside the newest ones "
            + "(training.keep_checkpoints). Without it only the newest are kept."
    )]
    public string? KeepBest { get; init; }

    [Description("Whether the highest or the lowest value is the best.")]
    public Best BestIs { get; init; } = Best.Highest;
}
