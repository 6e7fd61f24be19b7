using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Inference;

/// <summary>A tiny model with random weights and an engine around it, whose pool is checked after every step.</summary>
internal sealed class TestEngine : IDisposable
{
    private readonly FlatWeights weights;
    private readonly Decoder decoder;

    /// <param name="model">Its weights, which the engine's model disposes; random ones of the config by default.</param>
    public TestEngine(
        EngineOptions? options = null,
        ModelConfig? config = null,
        Tokenizer? tokenizer = null,
        int blocks = 200,
        FlatWeights? model = null
    )
    {
        config ??= model?.Layout.Config ?? TinyModels.Config();
        options ??= new();
        weights = model ?? TinyModels.Random(config);
        decoder = new(weights);
        var layout = new KvLayout(config, ScalarType.Float32, options.BlockSize) { Blocks = blocks };
        Engine = new(decoder, tokenizer, options with { KvCacheBytes = layout.Bytes });
    }

    public static readonly SamplingParameters Greedy = new()
    {
        Temperature = 0,
        MaxTokens = 40,
        IgnoreEos = true,
    };

    public Engine Engine { get; }
    public FlatWeights Weights => weights;

    /// <summary>The tokenizer of the quickstart's base model: 256 bytes and five added tokens.</summary>
    public static Tokenizer Tokenizer { get; } =
        Tokenizer.Load(Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base"));

    public static TestEngine WithText(EngineOptions? options = null) =>
        new(options, TinyModels.Config(vocabulary: Tokenizer.VocabularySize) with { EosTokenIds = [256] }, Tokenizer);

    /// <summary>Runs requests to their end and returns completions by request, then sample.</summary>
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

    /// <summary>One step, after which all invariants hold.</summary>
    public bool Step()
    {
        bool worked = Engine.Step();
        Engine.CheckInvariants();
        return worked;
    }

    /// <summary>Random token ids, the same for the same seed.</summary>
    public static int[] Prompt(int length, int seed = 0, int vocabulary = 61)
    {
        var random = new Random(1000 + seed);
        return [.. Enumerable.Range(0, length).Select(_ => random.Next(2, vocabulary))];
    }

    /// <summary>Logits of every position, by the training path's attention.</summary>
    public static double[][] Logits(TestEngine test, int[] tokens)
    {
        using var scope = NewDisposeScope();
        using var decoder = new Decoder(test.Weights);
        var ids = tensor(tokens.Select(t => (long)t).ToArray());
        var hidden = decoder.Hidden(
            ids,
            arange(tokens.Length, dtype: int64),
            new PackedAttention(decoder.Config, [new(0, tokens.Length)])
        );
        float[] all = decoder.Logits(hidden).data<float>().ToArray();
        return [.. all.Chunk(decoder.Config.VocabularySize).Select(row => row.Select(x => (double)x).ToArray())];
    }

    /// <summary>Log-probabilities of logits at a temperature, in doubles.</summary>
    public static double[] LogSoftmax(double[] logits, double temperature)
    {
        double max = logits.Max();
        double log = Math.Log(logits.Sum(x => Math.Exp((x - max) / temperature)));
        return [.. logits.Select(x => (x - max) / temperature - log)];
    }

    /// <summary>Equal tokens and log-probs, to the bit.</summary>
    public static void AssertSameTokens(List<Completion> expected, List<Completion> found)
    {
        Assert.Equal(expected.Count, found.Count);
        foreach (var (a, b) in expected.Zip(found))
        {
            Assert.Equal((a.RequestId, a.SampleIndex, a.FinishReason), (b.RequestId, b.SampleIndex, b.FinishReason));
            Assert.Equal(a.Tokens, b.Tokens);
            Assert.Equal(a.LogProbs, b.LogProbs); // to the bit: no kernel's sums depend on what else is in the batch
        }
    }

    /// <summary>Disposes the engine and the model.</summary>
    public void Dispose()
    {
        Engine.Dispose();
        DisposeModel();
    }

    /// <summary>Disposes the model only: an <see cref="EngineThread"/> disposes its engine.</summary>
    public void DisposeModel()
    {
        decoder.Dispose();
        weights.Dispose();
    }
}
