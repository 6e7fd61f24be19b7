using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Inference;

/// <summary>A tiny model with random weights and an engine around it, whose pool is checked after every step.</summary>
internal sealed class TestEngine : IDisposable
{
    private readonly FlatWeights weights;
    private readonly Decoder decoder;

    public TestEngine(
        EngineOptions? options = null,
        ModelConfig? config = null,
        Tokenizer? tokenizer = null,
        int blocks = 200
    )
    {
        config ??= TinyModels.Config();
        options ??= new();
        weights = TinyModels.Random(config);
        decoder = new(weights);
        var layout = new KvLayout(config, ScalarType.Float32, options.BlockSize) { Blocks = blocks };
        Engine = new(decoder, tokenizer, options with { KvCacheBytes = layout.Bytes });
    }

    public Engine Engine { get; }
    public FlatWeights Weights => weights;

    /// <summary>The tokenizer of the quickstart's base model: 256 bytes and five added tokens.</summary>
    public static Tokenizer Tokenizer { get; } =
        Tokenizer.Load(Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base"));

    public static TestEngine WithText(EngineOptions? options = null) =>
        new(options, TinyModels.Config(vocabulary: Tokenizer.VocabularySize) with { EosTokenIds = [256] }, Tokenizer);

    /// <summary>Runs requests to their end; completions by request, then sample.</summary>
    public List<Completion> Run(params GenerationRequest[] requests)
    {
        var completions = new List<Completion>();
        Engine.Submit(requests, onCompletion: completions.Add);
        while (Step()) { }
        return
        [
            .. completions.OrderBy(c => Array.FindIndex(requests, r => r.Id == c.RequestId)).ThenBy(c => c.SampleIndex),
        ];
    }

    public bool Step()
    {
        bool worked = Engine.Step();
        Engine.CheckInvariants();
        return worked;
    }

    public static int[] Prompt(int length, int seed = 0, int vocabulary = 61)
    {
        var random = new Random(1000 + seed);
        return [.. Enumerable.Range(0, length).Select(_ => random.Next(2, vocabulary))];
    }

    public void Dispose()
    {
        Engine.Dispose();
        DisposeModel();
    }

    public void DisposeModel()
    {
        decoder.Dispose();
        weights.Dispose();
    }
}
