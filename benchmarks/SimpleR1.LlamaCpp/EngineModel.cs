using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Models;

namespace SimpleR1.LlamaCpp;

/// <summary>The same model in this project's engine, which also samples and takes log-probs.</summary>
internal sealed class EngineModel(FlatWeights weights)
{
    /// <inheritdoc cref="LlamaCppModel.Decode"/>
    public double Decode(int sequences, int prompt, int tokens)
    {
        using var decoder = new Decoder(weights);
        using var engine = Open(decoder, sequences);
        int finished = 0;
        engine.Submit(
            [.. Enumerable.Range(0, sequences).Select(i => Request(i, prompt, tokens))],
            null,
            _ => finished++
        );
        while (engine.Statistics.Waiting > 0 || engine.Statistics.SampledTokens < sequences)
            engine.Step(); // all prompts, before the clock starts

        long before = engine.Statistics.SampledTokens;
        var watch = Stopwatch.StartNew();
        while (finished < sequences)
            engine.Step();
        return (engine.Statistics.SampledTokens - before) / watch.Elapsed.TotalSeconds;
    }

    /// <inheritdoc cref="LlamaCppModel.Prefill"/>
    public double Prefill(int prompt)
    {
        using var decoder = new Decoder(weights);
        using var engine = Open(decoder, 1);
        bool isFinished = false;
        engine.Submit([Request(0, prompt, 1)], null, _ => isFinished = true);
        var watch = Stopwatch.StartNew();
        while (!isFinished)
            engine.Step();
        return prompt / watch.Elapsed.TotalSeconds;
    }

    private static Engine Open(Decoder decoder, int sequences) =>
        new(
            decoder,
            null,
            new()
            {
                KvCacheBytes = 2L << 30,
                MaxBatchedTokens = 4096,
                MaxSequences = sequences,
            }
        );

    private GenerationRequest Request(int index, int prompt, int tokens)
    {
        var random = new Random(index);
        int vocabulary = weights.Layout.Config.VocabularySize;
        return new(
            $"{index}",
            [.. Enumerable.Range(0, prompt).Select(_ => random.Next(vocabulary))],
            new()
            {
                MaxTokens = tokens,
                IgnoreEos = true,
                Seed = (ulong)index,
            }
        );
    }
}
