using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using static TorchSharp.torch;

namespace SimpleR1.Tests;

/// <summary>Small models with random weights for tests that need a model but no text.</summary>
public static class TinyModels
{
    /// <param name="family">Qwen3 by default.</param>
    public static ModelConfig Config(ModelFamily? family = null, int vocabulary = 61, bool tied = true) =>
        new()
        {
            Family = family ?? ModelFamily.Qwen3,
            VocabularySize = vocabulary,
            HiddenSize = 24,
            IntermediateSize = 40,
            Layers = 2,
            Heads = 4,
            KeyValueHeads = 2,
            HeadDimension = 8,
            MaxPositions = 256,
            RmsNormEpsilon = 1e-6,
            RopeTheta = 10_000,
            TieEmbeddings = tied,
            EosTokenIds = [1],
        };

    /// <summary>Weights ~ N(0, scale²), norms around 1.</summary>
    public static FlatWeights Random(ModelConfig config, long seed = 7, double scale = 0.2)
    {
        var weights = new FlatWeights(new WeightLayout(config), ScalarType.Float32, CPU);
        using var generator = new Generator((ulong)seed, CPU);
        using var none = no_grad();
        using var scope = NewDisposeScope();
        foreach (var slot in weights.Layout.Slots)
        {
            var values = randn(slot.Shape, generator: generator) * scale;
            weights[slot].copy_(values + (slot.IsNorm ? 1 : 0));
        }

        return weights;
    }

    /// <summary>Writes a model folder that knows any text, byte by byte, in a long context: recipes for real models fit it.</summary>
    public static void WriteFolder(string folder)
    {
        string tokenizer = Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base");
        var config = Config(vocabulary: Tokenizer.Load(tokenizer).VocabularySize) with
        {
            MaxPositions = 8192,
            EosTokenIds = [256],
        };
        using var weights = Random(config);
        Checkpoint.Write(folder, weights, WeightType.F32, tokenizer);
    }
}
