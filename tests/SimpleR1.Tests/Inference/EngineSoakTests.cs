using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

/// <summary>
/// 2,000 requests of every kind on a pool far too small for them. Every step is checked, and a sample of results
/// against requests that run alone.
/// </summary>
public sealed class EngineSoakTests : IDisposable
{
    private const int Requests = 2_000;

    private readonly Random random = new(11);
    private readonly TestEngine test = new(
        new() { MaxSequences = 12, MaxBatchedTokens = 48 },
        TinyModels.Config() with
        {
            Layers = 1,
            HiddenSize = 16,
            IntermediateSize = 16,
        },
        blocks: 14
    );
    private readonly Dictionary<string, GenerationRequest> submitted = [];
    private readonly HashSet<string> aborted = [];
    private readonly List<Completion> completions = [];
    private readonly Dictionary<(string, int), int> streamedTokens = [];

    public void Dispose() => test.Dispose();

    [Fact]
    public void Random_requests_on_a_tiny_pool_keep_all_invariants_and_results()
    {
        while (submitted.Count < Requests || test.Engine.HasWork)
        {
            if (submitted.Count < Requests && test.Engine.Statistics.Waiting < 20)
                Submit();
            if (random.Next(12) == 0)
                Abort();
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
        Assert.All(completions, AssertConsistent);
        foreach (var request in submitted.Values.Where(r => !aborted.Contains(r.Id)).Where((_, i) => i % 40 == 0))
            AssertSameAlone(request);
    }

    private void Submit()
    {
        int first = submitted.Count;
        GenerationRequest[] batch =
        [
            .. Enumerable.Range(0, 1 + random.Next(8)).Select(i => Random(random, "r" + (first + i))),
        ];
        foreach (var request in batch)
            submitted.Add(request.Id, request);
        test.Engine.Submit(batch, Count, completions.Add);

        void Count(TokenEvent e)
        {
            var key = (e.RequestId, e.SampleIndex);
            if (e.Token >= 0)
                streamedTokens[key] = streamedTokens.GetValueOrDefault(key) + 1;
        }
    }

    private void Abort()
    {
        string id = "r" + Math.Max(0, submitted.Count - 1 - random.Next(25));
        if (test.Engine.Abort(id))
            aborted.Add(id);
        test.Engine.CheckInvariants();
    }

    private void AssertConsistent(Completion c)
    {
        var s = submitted[c.RequestId].Sampling;
        Assert.Equal(c.Tokens.Length, streamedTokens.GetValueOrDefault((c.RequestId, c.SampleIndex)));
        Assert.Equal((c.Tokens.Length, c.Tokens.Length), (c.LogProbs.Length, c.WeightVersions.Length));
        if (c.FinishReason == FinishReason.Aborted)
            Assert.Contains(c.RequestId, aborted);
        if (c.FinishReason == FinishReason.Length)
            Assert.Equal(s.MaxTokens, c.Tokens.Length);
        if (c.FinishReason == FinishReason.Stop)
            Assert.True(c.Tokens[^1] == 1 || s.StopTokenIds.Contains(c.Tokens[^1]));
    }

    private void AssertSameAlone(GenerationRequest request) =>
        Assert.Equal(
            completions
                .Where(c => c.RequestId == request.Id)
                .OrderBy(c => c.SampleIndex)
                .Select(c => string.Join(' ', c.Tokens)),
            test.Run(request).Select(c => string.Join(' ', c.Tokens))
        );

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
