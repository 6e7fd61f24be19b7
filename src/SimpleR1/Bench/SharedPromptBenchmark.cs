using SimpleR1.Inference;
using SimpleR1.Models;

namespace SimpleR1.Bench;

/// <summary>
/// Whether samples of one prompt agree on their first token: 900 prompts × 8 samples, greedy, at prompts whose last
/// token is alone after the blocks that samples share, and at prompts one token shorter.
/// </summary>
internal sealed class SharedPromptBenchmark(
    FlatWeights weights,
    string model,
    EngineBenchmarkOptions options,
    Action<string> log
)
{
    private const int Samples = 8;
    private const double LargeDifference = 0.02;

    public BenchmarkResult Run(Engine engine)
    {
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal);
        foreach (int length in new[] { 48, 49, 113 })
            Measure(engine, length, figures);
        return new("shared", model, weights.Device?.Name ?? "CPU", weights.Flat.dtype.ToString(), figures);
    }

    private void Measure(Engine engine, int length, SortedDictionary<string, double> figures)
    {
        int prompts = options.Scaled(900);
        var sampling = new SamplingParameters
        {
            Temperature = 0,
            MaxTokens = 1,
            Samples = Samples,
            IgnoreEos = true,
        };
        var random = new Random(length);
        int ids = Math.Min(10_000, weights.Layout.Config.VocabularySize);
        GenerationRequest[] requests =
        [
            .. Enumerable
                .Range(0, prompts)
                .Select(i => new GenerationRequest(
                    $"r{i}",
                    [.. Enumerable.Range(0, length).Select(_ => random.Next(ids))],
                    sampling
                )),
        ];

        var completions = new List<Completion>();
        engine.ResetPrefixCache();
        engine.Submit(requests, onCompletion: completions.Add);
        while (engine.Step()) { }
        double[] spreads =
        [
            .. completions
                .GroupBy(c => c.RequestId)
                .Select(group => (double)group.Max(c => c.LogProbs[0]) - group.Min(c => c.LogProbs[0])),
        ];

        double share = spreads.Count(s => s > LargeDifference) / (double)prompts;
        figures[$"prompts_that_differ_at_{length}_share"] = share;
        figures[$"largest_difference_at_{length}"] = spreads.Max();
        log(
            $"shared    {prompts} prompts of {length} tokens × {Samples} samples: first log-probs differ by at most "
                + $"{spreads.Max():0.000000}; by more than {LargeDifference} in {share:P1} of the prompts"
        );
    }
}
