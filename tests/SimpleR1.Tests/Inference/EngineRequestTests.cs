using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

/// <summary>Requests that are refused, aborted, ordered by priority, or ended by the context.</summary>
public sealed class EngineRequestTests
{
    private static readonly SamplingParameters Greedy = TestEngine.Greedy;

    [Fact]
    public void Partial_samples_that_fit_no_sample_are_refused_with_all_reasons()
    {
        using var test = new TestEngine();
        var request = new GenerationRequest("r", TestEngine.Prompt(5), Greedy with { Samples = 2 });
        var e = Assert.Throws<ArgumentException>(() =>
            test.Engine.Submit([request with { PartialSamples = [new(2), new(0) { Tokens = new int[40] }, new(0)] }])
        );
        foreach (
            string reason in new[]
            {
                "sample 2 is none of the 2",
                "sample 0 has 40 tokens already",
                "0 log-probs",
                "named twice",
            }
        )
            Assert.Contains(reason, e.Message);
        Assert.Contains(
            "no sample is named",
            Assert.Throws<ArgumentException>(() => test.Engine.Submit([request with { PartialSamples = [] }])).Message
        );
    }

    [Fact]
    public void Abort_in_the_middle_frees_blocks_and_reports_the_tokens_so_far()
    {
        using var test = new TestEngine();
        var completions = new List<Completion>();
        test.Engine.Submit(
            [new("a", TestEngine.Prompt(20), Greedy with { Samples = 3 }), new("b", TestEngine.Prompt(9), Greedy)],
            onCompletion: completions.Add
        );
        for (int i = 0; i < 5; i++)
            test.Step();
        Assert.True(test.Engine.Abort("a"));
        Assert.False(test.Engine.Abort("a"));
        test.Engine.CheckInvariants();
        Assert.Equal(3, completions.Count);
        Assert.All(completions, c => Assert.Equal((FinishReason.Aborted, 5), (c.FinishReason, c.Tokens.Length)));
        Assert.Equal(1, test.Engine.Statistics.BlocksInUse);
        while (test.Step()) { }
        Assert.Equal((FinishReason.Length, 40), (completions[3].FinishReason, completions[3].Tokens.Length));
    }

    [Fact]
    public void Callback_may_abort_a_sibling_in_the_same_step()
    {
        using var test = new TestEngine();
        var completions = new List<Completion>();
        test.Engine.Submit(
            [new("a", TestEngine.Prompt(5), Greedy with { MaxTokens = 3 }), new("b", TestEngine.Prompt(6), Greedy)],
            onCompletion: c =>
            {
                completions.Add(c);
                test.Engine.Abort("b");
            }
        );
        while (test.Step()) { }
        Assert.Equal(["a", "b"], completions.Select(c => c.RequestId));
        Assert.Equal(2, completions[1].Tokens.Length);
    }

    [Fact]
    public void Smaller_priority_runs_first()
    {
        using var test = new TestEngine(new() { MaxSequences = 1 });
        var finished = new List<string>();
        test.Engine.Submit(
            [
                new("late", TestEngine.Prompt(4), Greedy) { Priority = 5 },
                new("middle", TestEngine.Prompt(4), Greedy),
                new("first", TestEngine.Prompt(4), Greedy) { Priority = -1 },
            ],
            onCompletion: c => finished.Add(c.RequestId)
        );
        while (test.Step()) { }
        Assert.Equal(["first", "middle", "late"], finished);
    }

    [Fact]
    public void Completion_ends_at_the_context()
    {
        using var test = new TestEngine(new() { MaxContext = 30 });
        var completion = test.Run(new GenerationRequest("r", TestEngine.Prompt(25), Greedy))[0];
        Assert.Equal((FinishReason.Length, 5), (completion.FinishReason, completion.Tokens.Length));
    }

    [Fact]
    public void Refusal_names_everything_that_is_wrong_and_nothing_is_enqueued()
    {
        using var test = new TestEngine(new() { MaxContext = 100 }, blocks: 4);
        string Refusal(GenerationRequest bad) =>
            Assert.Throws<ArgumentException>(() => test.Engine.Submit([new("fine", [2, 3], Greedy), bad])).Message;
        Assert.Contains(
            "the prompt has 120 tokens, the context is 100",
            Refusal(new("r", TestEngine.Prompt(120), Greedy))
        );
        Assert.Contains("the KV cache has 4 blocks of 16", Refusal(new("r", TestEngine.Prompt(60), Greedy)));
        string several = Refusal(
            new(
                "r",
                [2, 61, -1],
                new()
                {
                    MaxTokens = 0,
                    Temperature = -1,
                    TopP = 0,
                    MinP = 2,
                    Samples = 0,
                    StopStrings = ["x"],
                    BadWords =
                    [
                        [],
                    ],
                }
            )
        );
        foreach (
            string problem in new[]
            {
                "token id 61",
                "MaxTokens",
                "Temperature",
                "TopP",
                "MinP",
                "Samples",
                "StopStrings",
                "BadWords",
            }
        )
            Assert.Contains(problem, several);
        Assert.Contains("another one with this id", Refusal(new("fine", [2], Greedy)));
        Assert.False(test.Engine.HasWork);
        Assert.Throws<ArgumentException>(() =>
            new TestEngine(
                new()
                {
                    BlockSize = 10,
                    MaxSequences = 8,
                    MaxBatchedTokens = 4,
                }
            )
        );
    }
}
