using SimpleR1.Models;

namespace SimpleR1.Training.Planning;

/// <summary>Memory and disk that training a model takes, known before it is loaded.</summary>
internal static class TrainerMemory
{
    private const int WeightBytes = 4; // f32
    private const int MomentBytes = 8; // the optimizer's two
    private const int GradientBytes = 4;

    /// <summary>Of weights, gradient and moments.</summary>
    public static long Training(WeightLayout layout) => layout.Length * (WeightBytes + GradientBytes + MomentBytes);

    /// <summary>Of a frozen copy of the weights.</summary>
    public static long Frozen(WeightLayout layout) => layout.Length * WeightBytes;

    /// <summary>Of weights and moments in a checkpoint's files.</summary>
    public static long Checkpoint(WeightLayout layout) => layout.Length * (WeightBytes + MomentBytes);

    /// <summary>
    /// Of activations at the peak of a micro-batch, roughly: what each layer keeps for its gradient (about seven rows of
    /// the residual stream's width, the projections and the feed-forward layer) and one part of the logits.
    /// </summary>
    /// <param name="checkpointing">Layers keep their input only.</param>
    public static long Activations(ModelConfig config, long tokens, bool checkpointing)
    {
        long whole = 7L * config.HiddenSize + 2L * config.QkvSize + 3L * config.IntermediateSize;
        long kept = checkpointing ? config.HiddenSize * (long)config.Layers + whole : whole * config.Layers;
        return tokens * kept * WeightBytes;
    }
}
