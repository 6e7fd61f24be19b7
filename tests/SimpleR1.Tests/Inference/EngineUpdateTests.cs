using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

/// <summary>Weight updates between steps.</summary>
public sealed class EngineUpdateTests
{
    private static readonly SamplingParameters Greedy = TestEngine.Greedy;

    [Fact]
    public void Weight_update_between_steps_marks_later_tokens_and_changes_them()
    {
        using var test = new TestEngine();
        Completion? completion = null;
        test.Engine.SetWeightVersion(3);
        test.Engine.Submit([new("r", TestEngine.Prompt(40), Greedy)], onCompletion: c => completion = c);
        for (int i = 0; i < 10; i++)
            test.Step();
        using (TorchSharp.torch.no_grad())
            test.Weights.Flat.mul_(0.5f);
        test.Engine.SetWeightVersion(4);
        test.Engine.ResetPrefixCache();
        test.Engine.RecomputeRunning();
        test.Engine.CheckInvariants();
        while (test.Step()) { }
        Assert.Equal([.. Enumerable.Repeat(3, 10), .. Enumerable.Repeat(4, 30)], completion!.WeightVersions);
        double[][] logits = TestEngine.Logits(test, [.. TestEngine.Prompt(40), .. completion.Tokens]);
        for (int i = 10; i < 40; i++)
            Assert.Equal(TestEngine.LogSoftmax(logits[39 + i], 1)[completion.Tokens[i]], completion.LogProbs[i], 1e-5);
        var again = test.Run(new GenerationRequest("fresh", TestEngine.Prompt(40), Greedy))[0];
        Assert.Equal(32, again.CachedPromptTokens); // what the sequence computed again, with the new weights
        Assert.Equal(TestEngine.LogSoftmax(logits[39], 1).Max(), again.LogProbs[0], 1e-5);
    }

    [Fact]
    public void Keys_of_old_weights_kept_by_a_running_sequence_are_not_found_by_others()
    {
        using var test = new TestEngine();
        test.Engine.Submit([new("old", TestEngine.Prompt(40), Greedy)]);
        test.Step();
        test.Engine.ResetPrefixCache();
        for (int i = 0; i < 20; i++)
            test.Step();
        test.Engine.Submit([new("new", TestEngine.Prompt(40), Greedy)]);
        test.Step();
        Assert.Equal(0, test.Engine.Statistics.PrefixHitTokens);
        while (test.Step()) { }
    }

    [Fact]
    public void Suspended_engine_makes_no_step_keeps_no_key_and_continues_with_the_same_tokens()
    {
        GenerationRequest[] requests =
        [
            new("a", TestEngine.Prompt(40), Greedy),
            new("b", TestEngine.Prompt(7), Greedy),
        ];
        using var plain = new TestEngine();
        var expected = plain.Run(requests);

        using var test = new TestEngine();
        var found = new List<Completion>();
        test.Engine.Submit(requests, onCompletion: found.Add);
        for (int i = 0; i < 10; i++)
            test.Step();
        test.Engine.Suspend();
        test.Engine.CheckInvariants();
        Assert.False(test.Step());
        Assert.Equal(
            (true, 0, 0, 2),
            (
                test.Engine.IsSuspended,
                test.Engine.Statistics.BlocksInUse,
                test.Engine.Statistics.CachedBlocks,
                test.Engine.Statistics.Waiting
            )
        );
        Assert.Throws<InvalidOperationException>(() => test.Engine.FinishStarted(TimeSpan.FromMinutes(1)));
        test.Engine.Resume();
        while (test.Step()) { }
        TestEngine.AssertSameTokens(expected, [.. found.OrderBy(c => c.RequestId)]);
        Assert.True(test.Engine.Statistics.RecomputedTokens > 0);
    }
}
