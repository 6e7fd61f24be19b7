using SimpleR1.Training.Rollouts;
using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>
/// An algorithm is two functions: the rewards of one prompt's samples become an advantage for each sample's tokens, and
/// per-token log-probs become a loss. <see cref="AlgorithmRegistry"/> has those that the project ships, by name.
/// </summary>
/// <param name="Advantages">
/// The samples of one group → per sample, one advantage per sampled token, or a single one for all of them.
/// </param>
/// <param name="Loss">
/// → a scalar, already weighted by <see cref="LossInput.Weights"/> and summed; and sums to report, weighted alike.
/// </param>
public sealed record Algorithm(
    Func<IReadOnlyList<Rollout>, float[][]> Advantages,
    Func<LossInput, (Tensor Loss, Dictionary<string, Tensor> Report)> Loss
)
{
    /// <summary>
    /// True when a sample whose advantages are all 0 adds nothing to the gradient of <see cref="Loss"/>, so that the
    /// trainer need not compute it. What <see cref="Loss"/> reports is then of the samples that it sees.
    /// </summary>
    public bool SkipsZeroAdvantages { get; init; }
}
