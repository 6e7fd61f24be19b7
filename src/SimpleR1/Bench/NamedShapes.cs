using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Bench;

/// <summary>Shapes of well-known models, to measure with random weights where the model itself is not at hand.</summary>
public static class NamedShapes
{
    private static readonly Dictionary<string, ModelConfig> shapes = new(StringComparer.OrdinalIgnoreCase)
    {
        ["qwen2.5-0.5b"] = Shape(ModelFamily.Qwen2, 151_936, 896, 4_864, 24, 14, 2, 64, 32_768, 1e6),
        ["qwen2.5-1.5b"] = Shape(ModelFamily.Qwen2, 151_936, 1_536, 8_960, 28, 12, 2, 128, 32_768, 1e6),
        ["qwen2.5-7b"] = Shape(ModelFamily.Qwen2, 152_064, 3_584, 18_944, 28, 28, 4, 128, 32_768, 1e6) with
        {
            TieEmbeddings = false,
        },
        ["qwen3-0.6b"] = Shape(ModelFamily.Qwen3, 151_936, 1_024, 3_072, 28, 16, 8, 128, 40_960, 1e6),
        ["llama3.2-1b"] = Shape(ModelFamily.Llama, 128_256, 2_048, 8_192, 16, 32, 8, 64, 131_072, 5e5),
        ["smollm2-135m"] = Shape(ModelFamily.Llama, 49_152, 576, 1_536, 30, 9, 3, 64, 8_192, 1e5),
    };

    public static IEnumerable<string> Names => shapes.Keys;

    /// <exception cref="ArgumentException">No shape has that name; lists those that there are.</exception>
    public static ModelConfig Get(string name) =>
        shapes.TryGetValue(name, out var config)
            ? config
            : throw new ArgumentException(
                $"no shape is named '{name}'; there are {string.Join(", ", Names)}, or give a model folder"
            );

    /// <summary>Weights ~ N(0, 0.02²), norms 1, made on the GPU.</summary>
    public static FlatWeights RandomWeights(ModelConfig config, ScalarType type, CudaDevice gpu)
    {
        var weights = new FlatWeights(new WeightLayout(config), type, gpu);
        var fill = gpu.Kernels.Get("RandomFill", "random_fill", CudaOps.Element(type));
        uint seed = 1;
        foreach (var slot in weights.Layout.Slots)
        {
            bool norm = slot.Name.EndsWith("norm", StringComparison.Ordinal);
            fill.Launch(
                (4 * gpu.Multiprocessors, 1),
                256,
                0,
                weights[slot.Name],
                slot.Length,
                norm ? 1f : 0f,
                norm ? 0f : 0.02f,
                (int)seed++
            );
        }
        gpu.Synchronize();
        return weights;
    }

    private static ModelConfig Shape(
        ModelFamily family,
        int vocabulary,
        int hidden,
        int intermediate,
        int layers,
        int heads,
        int kvHeads,
        int headDimension,
        int positions,
        double theta
    ) =>
        new()
        {
            Family = family,
            VocabularySize = vocabulary,
            HiddenSize = hidden,
            IntermediateSize = intermediate,
            Layers = layers,
            Heads = heads,
            KeyValueHeads = kvHeads,
            HeadDimension = headDimension,
            MaxPositions = positions,
            RmsNormEpsilon = 1e-6,
            RopeTheta = theta,
            TieEmbeddings = true,
            QueryKeyValueBias = family == ModelFamily.Qwen2,
            QueryKeyNorm = family == ModelFamily.Qwen3,
        };
}
