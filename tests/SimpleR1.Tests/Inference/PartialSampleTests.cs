using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

/// <summary>Samples that continue on another engine.</summary>
public sealed class PartialSampleTests
{
    private static readonly SamplingParameters Sampling = new()
    {
        Samples = 4,
        MaxTokens = 60,
        MinTokens = 20,
        RepetitionPenalty = 1.1,
        FrequencyPenalty = 0.2,
        TopLogProbs = 2,
        TopP = 0.95,
        BadWords =
        [
            [65, 66],
        ],
        StopStrings = ["e", "no such text"],
        StopTokenIds = [70],
    };

    private static GenerationRequest Request(int i) =>
        new("r" + i, TestEngine.Prompt(20 + i, i), Sampling with { Seed = (ulong)i, IncludeStopString = i == 1 });

    [Fact]
    public void Samples_that_were_interrupted_continue_elsewhere_as_if_they_had_never_stopped()
    {
        GenerationRequest[] requests = [.. Enumerable.Range(0, 3).Select(Request)];
        using var whole = TestEngine.WithText();
        var expected = whole.Run(requests);
        Assert.Contains(expected, c => c.FinishReason == FinishReason.Stop);
        Assert.Contains(expected, c => c.Tokens.Length > 25);

        // Each time on another engine, for some more steps.
        var found = new List<Completion>();
        var remaining = requests;
        for (int steps = 1; remaining.Length > 0; steps += 6)
        {
            var ended = RunSteps(remaining, steps);
            found.AddRange(ended.Where(c => c.FinishReason != FinishReason.Aborted));
            remaining = [.. remaining.Select(r => Rest(r, ended)).Where(r => r.Count > 0)];
        }

        found = [.. found.OrderBy(c => c.RequestId).ThenBy(c => c.SampleIndex)];
        TestEngine.AssertSameTokens(expected, found);
        Assert.Equal(expected.Select(c => c.Text), found.Select(c => c.Text));
        Assert.Equal(
            expected.SelectMany(c => c.TopLogProbs!.SelectMany(t => t)),
            found.SelectMany(c => c.TopLogProbs!.SelectMany(t => t))
        );
    }

    /// <summary>Runs requests for some steps and aborts the rest. The events' texts must be only what is new.</summary>
    private static List<Completion> RunSteps(GenerationRequest[] requests, int steps)
    {
        using var test = TestEngine.WithText();
        var ended = new List<Completion>();
        var streamed = new Dictionary<(string, int), string>();
        test.Engine.Submit(requests, Stream, ended.Add);
        for (int i = 0; i < steps; i++)
            test.Step();
        foreach (var request in requests)
            test.Engine.Abort(request.Id);

        Assert.All(ended, c => Assert.EndsWith(streamed[(c.RequestId, c.SampleIndex)], c.Text));
        return ended;

        void Stream(TokenEvent e)
        {
            var key = (e.RequestId, e.SampleIndex);
            streamed[key] = streamed.GetValueOrDefault(key) + e.Text;
        }
    }

    /// <summary>The request for the samples that were aborted.</summary>
    private static GenerationRequest Rest(GenerationRequest request, List<Completion> ended)
    {
        var aborted = ended.Where(c => c.RequestId == request.Id && c.FinishReason == FinishReason.Aborted);
        return request with { PartialSamples = [.. aborted.OrderBy(c => c.SampleIndex).Select(Partial)] };
    }

    private static PartialSample Partial(Completion c) =>
        new(c.SampleIndex)
        {
            Tokens = c.Tokens,
            LogProbs = c.LogProbs,
            WeightVersions = c.WeightVersions,
            TopLogProbs = c.TopLogProbs,
        };
}
