using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rollouts;
using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>What a loss sees: one value per trained token, in f32, all [tokens].</summary>
public sealed record LossInput
{
    /// <summary>Under the current weights; the only one with a gradient.</summary>
    public required Tensor LogProbs { get; init; }

    /// <summary>Under the trainer's weights before this batch's first update; the same values as <see cref="LogProbs"/> when there is only one update.</summary>
    public required Tensor OldLogProbs { get; init; }

    /// <summary>As the inference engine reported them while sampling.</summary>
    public required Tensor EngineLogProbs { get; init; }

    /// <summary>Under the frozen reference; null without one.</summary>
    public required Tensor? ReferenceLogProbs { get; init; }
    public required Tensor Advantages { get; init; }

    /// <summary>How much each token counts; over a whole optimizer step they add up to about 1. See <see cref="LossAverage"/>.</summary>
    public required Tensor Weights { get; init; }
}

/// <summary>
/// An algorithm is two functions: the rewards of one prompt's samples become an advantage for each sample's tokens, and per-token
/// log-probs become a loss. The trainer knows none by name; <see cref="Grpo"/> is the one that the project ships.
/// </summary>
/// <param name="Advantages">The samples of one group → per sample, one advantage per token (or a single one for all its tokens).</param>
/// <param name="Loss">→ a scalar, already weighted by <see cref="LossInput.Weights"/> and summed; and sums to report, by name, weighted alike.</param>
public sealed record Algorithm(
    Func<IReadOnlyList<Rollout>, float[][]> Advantages,
    Func<LossInput, (Tensor Loss, Dictionary<string, Tensor> Report)> Loss
);

/// <summary>Group Relative Policy Optimization (Shao et al. 2024, "DeepSeekMath") and its well-known corrections.</summary>
public static class Grpo
{
    /// <param name="normalizeByStd">Divide by the group's standard deviation; false is Dr. GRPO.</param>
    /// <param name="clipLow">The probability ratio counts down to 1 − this.</param>
    /// <param name="clipHigh">The probability ratio counts up to 1 + this ("clip-higher" when larger, DAPO).</param>
    /// <param name="klCoefficient">Weight of the k3 estimate of KL(policy ‖ reference) (Schulman 2020); 0 for none.</param>
    /// <param name="importanceCap">Truncated importance weights min(trainer p / engine p, cap) for tokens sampled by an engine that computes
    /// slightly different probabilities (Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"); 0 for none.</param>
    public static Algorithm Create(
        bool normalizeByStd = true,
        double clipLow = 0.2,
        double clipHigh = 0.2,
        double klCoefficient = 0,
        double importanceCap = 0
    ) =>
        new(
            Advantages: group =>
            {
                double mean = group.Average(r => r.Reward),
                    std = Math.Sqrt(group.Average(r => Math.Pow(r.Reward - mean, 2)));
                double scale = normalizeByStd ? 1 / (std + 1e-4) : 1;
                return [.. group.Select(r => new[] { (float)((r.Reward - mean) * scale) })];
            },
            Loss: t =>
            {
                var ratio = (t.LogProbs - t.OldLogProbs).exp();
                var clipped = ratio.clamp(1 - clipLow, 1 + clipHigh);
                var gain = minimum(ratio * t.Advantages, clipped * t.Advantages);
                var mismatch = (t.OldLogProbs - t.EngineLogProbs).exp(); // trainer's p / engine's p
                if (importanceCap > 0)
                    gain = gain * mismatch.clamp_max(importanceCap);
                var loss = -(gain * t.Weights).sum();
                var report = new Dictionary<string, Tensor>
                {
                    ["clip_fraction"] = ((ratio.detach() - clipped.detach()).abs().gt(0).to(float32) * t.Weights).sum(),
                    ["kl_engine"] = ((mismatch - 1 - mismatch.log()) * t.Weights).sum(), // k3 of KL(engine ‖ trainer before the update)
                    ["kl_update"] = ((ratio.detach() - 1 - ratio.detach().log()) * t.Weights).sum(), // k3 of KL(before the update ‖ now)
                };
                if (t.ReferenceLogProbs is { } reference)
                {
                    var difference = reference - t.LogProbs;
                    var kl = ((difference.exp() - 1 - difference) * t.Weights).sum();
                    report["kl_reference"] = kl.detach();
                    loss += klCoefficient * kl;
                }
                return (loss, report);
            }
        );
}
