using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>
/// How far the log-probs of the engine that sampled are from the trainer's under the same weights: rounding, where all is
/// well. Tokens of older weights are left out.
/// </summary>
/// <param name="version">The trainer's weights before the step's first update.</param>
internal sealed class EngineDifference(int version)
{
    public const string Metric = "engine_difference";

    private double sum;
    private long tokens;

    /// <summary>Mean of |trainer's log p − engine's log p|, nats a token, so far; 0 without such tokens.</summary>
    public double Mean => sum / Math.Max(1, tokens);

    public void Add(LossInput input)
    {
        using var scope = NewDisposeScope();
        using var gradients = no_grad();
        var isCurrent = input.WeightVersions.eq(version);
        var difference = (input.OldLogProbs - input.EngineLogProbs).abs().masked_fill(~isCurrent, 0);
        sum += difference.sum(float64).item<double>();
        tokens += isCurrent.sum().item<long>();
    }
}
