using SimpleR1.Models;
using SimpleR1.Tensors.Operands;

namespace SimpleR1.Bench.Training;

/// <summary>
/// Floating-point operations that a step of training needs at least: forward, and twice as many backward. Causal
/// attention is counted half, a shared prompt once, logits only for trained tokens, and nothing that is computed again.
/// </summary>
/// <param name="batches">The segments of each micro-batch, and its trained tokens.</param>
internal sealed class TrainingWork(WeightLayout layout, IReadOnlyList<(Segment[] Segments, int Trained)> batches)
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
            double products = batches.Sum(b => perToken * b.Segments[^1].End + perTrained * b.Trained);
            double attention = batches.Sum(b =>
                (double)c.Layers * c.QuerySize * b.Segments.Sum(s => Seen(s, b.Segments))
            );
            return ForwardAndBackward * MultiplyAndAdd * (products + attention);
        }
    }

    /// <summary>Twice the pairs of a segment's token and a token that it sees: all of the prefix, half of its own.</summary>
    private static double Seen(Segment segment, Segment[] all)
    {
        int before = segment.Prefix < 0 ? 0 : all[segment.Prefix].Count;
        return (double)segment.Count * (segment.Count + 2 * before);
    }
}
