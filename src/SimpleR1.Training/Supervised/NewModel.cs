using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Recipes;
using static TorchSharp.torch;

namespace SimpleR1.Training.Supervised;

/// <summary>A model of random weights.</summary>
internal static class NewModel
{
    /// <summary>The configuration of a shape, with the tokenizer's vocabulary.</summary>
    /// <exception cref="InvalidDataException">The tokenizer has no end-of-text token.</exception>
    public static ModelConfig Config(ModelShape shape, Tokenizer tokenizer)
    {
        int end =
            tokenizer.TokenId("<|endoftext|>")
            ?? throw new InvalidDataException(
                $"{shape.Tokenizer}: the tokenizer of a new model needs an <|endoftext|> token"
            );
        return new()
        {
            Family = shape.Family,
            VocabularySize = (tokenizer.VocabularySize + 7) / 8 * 8,
            HiddenSize = shape.HiddenSize,
            IntermediateSize = shape.IntermediateSize,
            Layers = shape.Layers,
            Heads = shape.Heads,
            KeyValueHeads = shape.KeyValueHeads,
            HeadDimension = shape.HeadDimension ?? shape.HiddenSize / shape.Heads,
            MaxPositions = shape.MaxPositions,
            RmsNormEpsilon = 1e-6,
            RopeTheta = shape.RopeTheta,
            TieEmbeddings = shape.TieEmbeddings,
            EosTokenIds = [end],
        };
    }

    /// <summary>
    /// N(0, 0.02²), the projections into the residual stream scaled down by √(2·layers) (GPT-2), norms 1, biases 0.
    /// </summary>
    /// <param name="weights">f32 zeros in the host's memory.</param>
    public static void Initialize(FlatWeights weights, ulong seed)
    {
        var config = weights.Layout.Config;
        using var generator = new Generator(seed, CPU);
        foreach (var slot in weights.Layout.Slots)
        {
            using var scope = NewDisposeScope();
            bool residual =
                slot.Name.EndsWith("attention_output", StringComparison.Ordinal)
                || slot.Name.EndsWith("down", StringComparison.Ordinal);
            if (slot.IsNorm)
                weights[slot.Name].fill_(1);
            else if (!slot.Name.EndsWith("bias", StringComparison.Ordinal))
                weights[slot.Name]
                    .copy_(
                        randn(slot.Shape, generator: generator)
                            * (residual ? 0.02 / Math.Sqrt(2 * config.Layers) : 0.02)
                    );
        }
    }
}
