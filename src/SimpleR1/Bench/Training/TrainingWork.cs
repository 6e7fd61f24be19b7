using SimpleR1.Models;
using SimpleR1.Training.Policy;

namespace SimpleR1.Bench.Training;

/// <summary>
/// Floating-point operations that a step of training needs at least: forward, and twice as many backward. Causal
/// attention is counted half, logits only for trained tokens, and nothing that is computed again.
/// </summary>
internal sealed class TrainingWork(WeightLayout layout, IReadOnlyList<TrainingSequence> sequences)
{
    private const int ForwardAndBackward = 3;
    private const int MultiplyAndAdd = 2;

    public double ModelFlops
    {
        get
        {
            var c = layout.Config;
            double perToken =
                (double)c.Layers
                * ((c.QkvSize + c.QuerySize) * (double)c.HiddenSize + 3.0 * c.IntermediateSize * c.HiddenSize);
            double perTrained = (double)c.VocabularySize * c.HiddenSize;
            double products = sequences.Sum(s => perToken * s.Computed + perTrained * s.Trained);
            double attention = sequences.Sum(s => (double)c.Layers * c.QuerySize * s.Computed * s.Computed); // half of 2·n²
            return ForwardAndBackward * MultiplyAndAdd * (products + attention);
        }
    }
}
