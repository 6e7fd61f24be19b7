using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed class EngineSoakTests
{
    /// <summary>2,000 requests of every kind on a pool far too small for them; every step is checked, and a sample of results against runs alone.</summary>
    [Fact]
    public void Random_requests_on_a_tiny_pool_keep_all_invariants_and_results()
    {
        const int requests = 2_000;
        var random = new Random(11);
        var options = new EngineOptions { MaxSequences = 12, MaxBatchedTokens = 48 };
        using var test = new TestEngine(
            options,
            TinyModels.Config() with
            {
                Layers = 1,
                HiddenSize = 16,
                IntermediateSize = 16,
            },
            blocks: 14
        );
        var submitted = new Dictionary<string, GenerationRequest>();
        var aborted = new HashSet<string>();
        var completions = new List<Completion>();
        var tokens = new Dictionary<(string, int), int>();
        while (submitted.Count < requests || test.Engine.HasWork)
        {
            if (submitted.Count < requests && test.Engine.Statistics.Waiting < 20)
            {
                GenerationRequest[] batch =
                [
                    .. Enumerable.Range(0, 1 + random.Next(8)).Select(i => Random(random, "r" + (submitted.Count + i))),
                ];
                foreach (var request in batch)
                    submitted.Add(request.Id, request);
                test.Engine.Submit(
                    batch,
                    e =>
                    {
                        if (e.Token >= 0)
                            tokens[(e.RequestId, e.SampleIndex)] =
                                tokens.GetValueOrDefault((e.RequestId, e.SampleIndex)) + 1;
                    },
                    completions.Add
                );
            }
            if (random.Next(12) == 0)
            {
                string id = "r" + Math.Max(0, submitted.Count - 1 - random.Next(25));
                if (test.Engine.Abort(id))
                    aborted.Add(id);
                test.Engine.CheckInvariants();
            }
            test.Step();
        }
        var statistics = test.Engine.Statistics;
        Assert.Equal((0, 0, 0), (statistics.Running, statistics.Waiting, statistics.BlocksInUse));
        Assert.True(
            statistics.Preemptions > 100 && statistics.PrefixHitTokens > 1000 && aborted.Count > 50,
            statistics.ToString()
        );
        Assert.Equal(submitted.Values.Sum(r => r.Sampling.Samples), completions.Count);
        Assert.Equal(completions.Count, completions.DistinctBy(c => (c.RequestId, c.SampleIndex)).Count());
        foreach (var c in completions)
        {
            var s = submitted[c.RequestId].Sampling;
            Assert.Equal(c.Tokens.Length, tokens.GetValueOrDefault((c.RequestId, c.SampleIndex)));
            Assert.Equal((c.Tokens.Length, c.Tokens.Length), (c.LogProbs.Length, c.WeightVersions.Length));
            if (c.FinishReason == FinishReason.Aborted)
                Assert.Contains(c.RequestId, aborted);
            if (c.FinishReason == FinishReason.Length)
                Assert.Equal(s.MaxTokens, c.Tokens.Length);
            if (c.FinishReason == FinishReason.Stop)
                Assert.True(c.Tokens[^1] == 1 || s.StopTokenIds.Contains(c.Tokens[^1]));
        }
        foreach (var request in submitted.Values.Where(r => !aborted.Contains(r.Id)).Where((_, i) => i % 40 == 0))
            Assert.Equal(
                completions
                    .Where(c => c.RequestId == request.Id)
                    .OrderBy(c => c.SampleIndex)
                    .Select(c => string.Join(' ', c.Tokens)),
                test.Run(request).Select(c => string.Join(' ', c.Tokens))
            );
    }

    internal static GenerationRequest Random(Random random, string id)
    {
        int max = 1 + random.Next(40);
        return new(
            id,
            TestEngine.Prompt(1 + random.Next(100), random.Next(6)),
            new()
            {
                Samples = 1 + (random.Next(4) == 0 ? random.Next(5) : 0),
                MaxTokens = max,
                MinTokens = random.Next(3) == 0 ? random.Next(max + 1) : 0,
                Temperature = random.Next(3) * 0.7,
                TopK = random.Next(3) == 0 ? 1 + random.Next(20) : 0,
                TopP = random.Next(3) == 0 ? 0.5 : 1,
                RepetitionPenalty = random.Next(4) == 0 ? 1.2 : 1,
                FrequencyPenalty = random.Next(4) == 0 ? 0.1 : 0,
                Seed = (ulong)random.Next(),
                StopTokenIds = random.Next(3) == 0 ? [3, 4, 5] : [],
            }
        )
        {
            Priority = random.Next(3),
        };
    }
}
