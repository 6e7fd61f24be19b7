using SimpleR1.Training.Rollouts;
using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>Group Relative Policy Optimization (Shao et al. 2024, "DeepSeekMath") and its well-known corrections.</summary>
public static class Grpo
{
    /// <param name="normalizeByStd">Divide by the group's standard deviation; false is Dr. GRPO.</param>
    /// <param name="clipLow">The probability ratio counts down to 1 − this.</param>
    /// <param name="clipHigh">The probability ratio counts up to 1 + this ("clip-higher" when larger, DAPO).</param>
    /// <param name="klCoefficient">Weight of the k3 estimate of KL(policy ‖ reference) (Schulman 2020); 0 for none.</param>
    /// <param name="importanceCap">
    /// Truncated importance weights min(trainer p / engine p, cap) for tokens sampled by an engine that computes
    /// slightly different probabilities (Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy
    /// RL Training"); 0 for none.
    /// </param>
    public static Algorithm Create(
        bool normalizeByStd = true,
        double clipLow = 0.2,
        double clipHigh = 0.2,
        double klCoefficient = 0,
        double importanceCap = 0
    ) =>
        new(
            Advantages: group => Advantages(group, normalizeByStd),
            Loss: t =>
            {
                // Clipped gain, with a truncated importance weight for the engine's mismatch
                var ratio = (t.LogProbs - t.OldLogProbs).exp();
                var clipped = ratio.clamp(1 - clipLow, 1 + clipHigh);
                var unclipped = ratio * t.Advantages;
                var gain = minimum(unclipped, clipped * t.Advantages);
                var effective = gain.detach().lt(unclipped.detach()).to(float32); // where the clip lowers the gain
                var mismatch = (t.OldLogProbs - t.EngineLogProbs).exp(); // trainer's p / engine's p
                if (importanceCap > 0)
                    gain = gain * mismatch.clamp_max(importanceCap);
                var loss = -(gain * t.Weights).sum();

                // k3 of KL(engine ‖ trainer before the update) and of KL(before the update ‖ now)
                var report = new Dictionary<string, Tensor>
                {
                    ["clip_fraction"] = (effective * t.Weights).sum(),
                    ["kl_engine"] = ((mismatch - 1 - mismatch.log()) * t.Weights).sum(),
                    ["kl_update"] = ((ratio.detach() - 1 - ratio.detach().log()) * t.Weights).sum(),
                };

                // The pull back to the reference
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

    /// <summary>A sample's reward against the mean of its group, one value for all its tokens.</summary>
    public static float[][] Advantages(IReadOnlyList<Rollout> group, bool normalizeByStd)
    {
        double mean = group.Average(r => r.Reward);
        double std = Math.Sqrt(group.Average(r => Math.Pow(r.Reward - mean, 2)));
        double scale = normalizeByStd ? 1 / (std + 1e-4) : 1;
        if (group.All(r => r.Reward == group[0].Reward))
            scale = 0; // the mean of equal rewards may differ from them by its rounding
        return [.. group.Select(r => new[] { (float)((r.Reward - mean) * scale) })];
    }
}
