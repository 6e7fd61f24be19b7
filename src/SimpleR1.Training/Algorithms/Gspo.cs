using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>
/// Group Sequence Policy Optimization (Zheng et al. 2025): <see cref="Grpo"/> with one probability ratio for each
/// sample, the geometric mean of its tokens' ratios. The paper averages each sequence alike and clips at 1 − 3e-4 and 1
/// + 4e-4.
/// </summary>
public static class Gspo
{
    /// <inheritdoc cref="Grpo.Create"/>
    public static Algorithm Create(
        bool normalizeByStd = true,
        double clipLow = 3e-4,
        double clipHigh = 4e-4,
        double klCoefficient = 0,
        double importanceCap = 0
    ) =>
        new(
            Advantages: group => Grpo.Advantages(group, normalizeByStd),
            Loss: t =>
            {
                var ratio = t.SampleMean(t.LogProbs - t.OldLogProbs).exp(); // the same at all tokens of a sample
                var clipped = ratio.clamp(1 - clipLow, 1 + clipHigh);
                var unclipped = ratio * t.Advantages;
                var gain = minimum(unclipped, clipped * t.Advantages);
                var effective = gain.detach().lt(unclipped.detach()).to(float32); // where the clip lowers the gain
                if (importanceCap > 0)
                    gain = gain * t.SampleMean(t.OldLogProbs - t.EngineLogProbs).exp().clamp_max(importanceCap);
                var loss = -(gain * t.Weights).sum();
                var report = new Dictionary<string, Tensor> { ["clip_fraction"] = (effective * t.Weights).sum() };
                if (t.ReferenceLogProbs is { } reference)
                {
                    var difference = reference - t.LogProbs;
                    var kl = ((difference.exp() - 1 - difference) * t.Weights).sum();
                    report["kl_reference"] = kl.detach();
                    loss += klCoefficient * kl;
                }
                return (loss, report);
            }
        )
        {
            SkipsZeroAdvantages = klCoefficient == 0, // the pull back to the reference asks for no advantage
        };
}
