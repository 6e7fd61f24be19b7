using SimpleR1.Models;
using SimpleR1.Tensors.Operands;

namespace SimpleR1.Training.Policy;

/// <summary>
/// Bytes of activations at the peak of a micro-batch, known before it is computed: what the layers keep for their
/// gradients, and the largest of what exists beside that for a moment. Exact on a GPU, about right on a CPU.
/// </summary>
public sealed record ActivationMemory
{
    private const int F32 = 4;
    private const long Spare = 64L << 20; // sums in parts, ids, and the gaps between tensors

    public required ModelConfig Config { get; init; }

    /// <summary>Of weights and activations: 2 or 4.</summary>
    public required int ElementBytes { get; init; }
    public required HeadMemory Head { get; init; }

    /// <summary>Layers keep only their input.</summary>
    public bool Checkpointing { get; init; }

    /// <param name="tokens">Tokens of the micro-batch.</param>
    /// <param name="trained">Those whose log-probs are taken; all at most.</param>
    public long Peak(long tokens, long trained)
    {
        long stream = F32 * (long)Config.HiddenSize,
            rounded = ElementBytes * (long)Config.HiddenSize;
        long kept = Checkpointing ? Config.Layers * (stream + rounded) + LayerBytes : Config.Layers * LayerBytes;
        long final = stream + rounded;
        long whole = tokens * (kept + final) + 2 * trained * rounded; // with the head's input and its gradient
        long backward = tokens * Math.Max(FeedForwardBytes, AttentionBytes);
        return whole + Math.Max(HeadBytes(trained), backward) + Spare;
    }

    /// <summary>What a layer keeps of a token for its gradient.</summary>
    private long LayerBytes
    {
        get
        {
            var c = Config;
            long twoNorms = 2 * (F32 + ElementBytes) * (long)c.HiddenSize; // sums and what was normalised
            long attention = ElementBytes * (c.QkvSize + c.QuerySize) + F32 * (long)c.Heads;
            long beforeHeadNorms = c.QueryKeyNorm ? ElementBytes * c.QkvSize : 0;
            return twoNorms + attention + beforeHeadNorms + 2L * ElementBytes * c.IntermediateSize;
        }
    }

    /// <summary>What the gradient of a feed-forward layer needs of a token beside what is kept.</summary>
    private long FeedForwardBytes =>
        (F32 + 2 * ElementBytes) * (long)Config.HiddenSize + 2L * ElementBytes * Config.IntermediateSize;

    /// <summary>
    /// The same of attention. The sums in parts of shared prompts have at most two rows of keys and values for each token
    /// (PackedItems.KeyTiles).
    /// </summary>
    private long AttentionBytes
    {
        get
        {
            var c = Config;
            long rows = (F32 + ElementBytes) * (long)c.HiddenSize + ElementBytes * (c.QkvSize + c.QuerySize);
            return rows + F32 * (c.Heads + 2L * (c.QkvSize - c.QuerySize));
        }
    }

    private long HeadBytes(long trained)
    {
        long row = F32 * (long)Config.VocabularySize;
        long rows = Math.Min(trained, Head.RowsPerLoss(Config.VocabularySize));
        if (rows * row > Head.Kept)
            rows = Math.Min(rows, Math.Max(1, Head.PerChunk / row));
        return rows * (row + 2L * ElementBytes * Config.HiddenSize);
    }
}
