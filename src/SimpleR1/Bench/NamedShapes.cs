using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Bench;

/// <summary>
/// Shapes of well-known models, to measure with random weights where the model itself is not at hand.
/// </summary>
public static class NamedShapes
{
    private static readonly ModelConfig Qwen25 = new()
    {
        Family = ModelFamily.Qwen2,
        VocabularySize = 151_936,
        HiddenSize = 896,
        IntermediateSize = 4_864,
        Layers = 24,
        Heads = 14,
        KeyValueHeads = 2,
        HeadDimension = 64,
        MaxPositions = 32_768,
        RmsNormEpsilon = 1e-6,
        RopeTheta = 1e6,
        TieEmbeddings = true,
    };

    private static readonly Dictionary<string, ModelConfig> shapes = new(StringComparer.OrdinalIgnoreCase)
    {
        ["qwen2.5-0.5b"] = Qwen25,
        ["qwen2.5-1.5b"] = Qwen25 with
        {
            HiddenSize = 1_536,
            IntermediateSize = 8_960,
            Layers = 28,
            Heads = 12,
            HeadDimension = 128,
        },
        ["qwen2.5-7b"] = Qwen25 with
        {
            VocabularySize = 152_064,
            HiddenSize = 3_584,
            IntermediateSize = 18_944,
            Layers = 28,
            Heads = 28,
            KeyValueHeads = 4,
            HeadDimension = 128,
            TieEmbeddings = false,
        },
        ["qwen3-0.6b"] = Qwen25 with
        {
            Family = ModelFamily.Qwen3,
            HiddenSize = 1_024,
            IntermediateSize = 3_072,
            Layers = 28,
            Heads = 16,
            KeyValueHeads = 8,
            HeadDimension = 128,
            MaxPositions = 40_960,
        },
        ["llama3.2-1b"] = new()
        {
            Family = ModelFamily.Llama,
            VocabularySize = 128_256,
            HiddenSize = 2_048,
            IntermediateSize = 8_192,
            Layers = 16,
            Heads = 32,
            KeyValueHeads = 8,
            HeadDimension = 64,
            MaxPositions = 131_072,
            RmsNormEpsilon = 1e-6,
            RopeTheta = 5e5,
            TieEmbeddings = true,
        },
        ["smollm2-135m"] = new()
        {
            Family = ModelFamily.Llama,
            VocabularySize = 49_152,
            HiddenSize = 576,
            IntermediateSize = 1_536,
            Layers = 30,
            Heads = 9,
            KeyValueHeads = 3,
            HeadDimension = 64,
            MaxPositions = 8_192,
            RmsNormEpsilon = 1e-6,
            RopeTheta = 1e5,
            TieEmbeddings = true,
        },
    };

    public static IEnumerable<string> Names => shapes.Keys;

    /// <exception cref="ArgumentException">No shape has that name; lists those that exist.</exception>
    public static ModelConfig Get(string name) =>
        shapes.TryGetValue(name, out var config)
            ? config
            : throw new ArgumentException(
                $"no shape is named '{name}'; there are {string.Join(", ", Names)}, or give a model folder"
            );

    /// <summary>Weights ~ N(0, 0.02²), norms 1, made where they will be.</summary>
    public static FlatWeights RandomWeights(ModelConfig config, ScalarType type, CudaDevice? gpu) =>
        gpu is null ? OnCpu(config, type) : OnGpu(config, type, gpu);

    private static FlatWeights OnCpu(ModelConfig config, ScalarType type)
    {
        var weights = new FlatWeights(new WeightLayout(config), type, CPU);
        using var generator = new Generator(seed: 1);
        foreach (var slot in weights.Layout.Slots)
        {
            if (slot.IsNorm)
                weights[slot].fill_(1);
            else
                weights[slot].normal_(0, 0.02, generator);
        }
        return weights;
    }

    private static FlatWeights OnGpu(ModelConfig config, ScalarType type, CudaDevice gpu)
    {
        var weights = new FlatWeights(new WeightLayout(config), type, gpu);
        var fill = gpu.Kernels.Get("RandomFill", "random_fill", ElementType.Of(type).Definition());
        uint seed = 1;

        foreach (var slot in weights.Layout.Slots)
        {
            float mean = slot.IsNorm ? 1f : 0f;
            float deviation = slot.IsNorm ? 0f : 0.02f;
            var grid = (4 * gpu.Multiprocessors, 1);
            fill.Launch(grid, 256, 0, weights[slot], slot.Length, mean, deviation, (int)seed++);
        }

        gpu.Synchronize();
        return weights;
    }
}
