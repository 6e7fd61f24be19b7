using System.ComponentModel;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>Shape of the learning rate after the warm-up.</summary>
public enum Schedule
{
    Constant,
    Linear,
    Cosine,
}

/// <summary>The <c>optimizer</c> section.</summary>
public sealed record OptimizerSection
{
    [Description("Highest learning rate.")]
    [Limits(AtLeast = 0)]
    public double LearningRate { get; init; } = 1e-6;

    [Description("Decay of the gradient's moving average.")]
    [Limits(AtLeast = 0, Below = 1)]
    public double Beta1 { get; init; } = 0.9;

    [Description("Decay of the squared gradient's moving average.")]
    [Limits(AtLeast = 0, Below = 1)]
    public double Beta2 { get; init; } = 0.95;

    [Description("Added to the denominator of the update.")]
    [Limits(Above = 0)]
    public double Epsilon { get; init; } = 1e-8;

    [Description(
        "Decoupled weight decay of matrices, the embedding and the output included; norms and biases have none."
    )]
    [Limits(AtLeast = 0)]
    public double WeightDecay { get; init; }

    [Description(
        "Gradients are scaled down to this norm, without the 1e-6 that PyTorch adds to the divisor; 0 never scales."
    )]
    [Limits(AtLeast = 0)]
    public double MaxGradientNorm { get; init; } = 1;

    [Description("Shape of the learning rate after the warm-up.")]
    public Schedule Schedule { get; init; } = Schedule.Constant;

    [Description(
        "Steps in which the learning rate rises linearly from 0. In a run of no more steps than these, it is the first half."
    )]
    [Limits(AtLeast = 0)]
    public int WarmupSteps { get; init; }

    [Description("Learning rate of the last step, as a fraction of the highest.")]
    [Limits(AtLeast = 0, AtMost = 1)]
    public double FinalLearningRateRatio { get; init; } = 0.1;

    /// <summary>
    /// Steps of the warm-up in a run of this length. A short run of a recipe for a long one, such as a trial of five
    /// steps, must reach the full learning rate too.
    /// </summary>
    public int WarmupIn(int steps) => WarmupSteps < steps ? WarmupSteps : steps / 2;

    /// <summary>Logs that the warm-up is shorter than the recipe says, if it is.</summary>
    internal void LogShortWarmup(int steps, Action<string> log)
    {
        if (WarmupSteps >= steps && WarmupSteps > 0)
            log(
                $"a warm-up of {WarmupSteps} steps does not end in {steps}; the first {WarmupIn(steps)} are the warm-up"
            );
    }
}
