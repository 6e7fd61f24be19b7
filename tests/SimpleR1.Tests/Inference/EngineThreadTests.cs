using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed class EngineThreadTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly SamplingParameters Sampling = new() { MaxTokens = 20, IgnoreEos = true };

    private static GenerationRequest Request(string id, int samples = 1, int max = 20) =>
        new(id, TestEngine.Prompt(10), Sampling with { Samples = samples, MaxTokens = max });

    /// <summary>An engine thread over a test engine; the model is disposed after the thread has ended.</summary>
    private sealed class Host(TimeSpan drain = default) : IAsyncDisposable
    {
        private readonly TestEngine test = new();
        private EngineThread? thread;

        public EngineThread Thread => thread ??= new(() => test.Engine, drain);

        public async ValueTask DisposeAsync()
        {
            await Thread.DisposeAsync();
            test.DisposeModel();
        }
    }

    [Fact]
    public async Task Calls_at_once_get_their_own_completions_in_order()
    {
        await using var host = new Host();
        var calls = Enumerable
            .Range(0, 20)
            .Select(i =>
                host.Thread.GenerateAsync(
                    [Request($"{i}b", 2), Request($"{i}a", 3)],
                    TestContext.Current.CancellationToken
                )
            )
            .ToArray();
        for (int i = 0; i < 20; i++)
            Assert.Equal(
                [$"{i}b 0", $"{i}b 1", $"{i}a 0", $"{i}a 1", $"{i}a 2"],
                (await calls[i].WaitAsync(Patience, TestContext.Current.CancellationToken)).Select(c =>
                    $"{c.RequestId} {c.SampleIndex}"
                )
            );
        Assert.Equal(100, await host.Thread.BetweenStepsAsync(e => e.Statistics.FinishedSequences));
    }

    [Fact]
    public async Task Stream_gives_every_token_and_the_completion_last()
    {
        await using var host = new Host();
        var events = new List<TokenEvent>();
        await foreach (var e in host.Thread.StreamAsync(Request("r", 2), TestContext.Current.CancellationToken))
            events.Add(e);
        Assert.Equal(40, events.Count);
        Assert.Equal(2, events.Count(e => e.Completion is not null));
        Assert.Equal(
            events.Where(e => e.SampleIndex == 1).Select(e => e.Token),
            events.Last(e => e.SampleIndex == 1).Completion!.Tokens
        );
    }

    [Fact]
    public async Task Leaving_a_stream_or_cancelling_a_call_aborts_in_the_engine()
    {
        await using var host = new Host();
        await foreach (var e in host.Thread.StreamAsync(Request("left", 1, 200), TestContext.Current.CancellationToken))
            if (e.Token >= 0)
                break;
        using var source = new CancellationTokenSource();
        var call = host.Thread.GenerateAsync([Request("cancelled", 4, 200)], source.Token);
        await foreach (var e in host.Thread.StreamAsync(Request("other"), TestContext.Current.CancellationToken))
            source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            call.WaitAsync(Patience, TestContext.Current.CancellationToken)
        );
        Assert.False(await host.Thread.BetweenStepsAsync(e => e.HasWork));

        // The aborted request's id is free again.
        Assert.Single(await host.Thread.GenerateAsync([Request("left")], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Refused_request_fails_its_call_only()
    {
        await using var host = new Host();
        var good = host.Thread.GenerateAsync([Request("good")], TestContext.Current.CancellationToken);
        await Assert.ThrowsAsync<ArgumentException>(() =>
            host.Thread.GenerateAsync([new("bad", [], Sampling)], TestContext.Current.CancellationToken)
        );
        var duplicate = await Assert.ThrowsAsync<ArgumentException>(() =>
            host.Thread.GenerateAsync([Request("x"), Request("x")], TestContext.Current.CancellationToken)
        );
        Assert.Contains("another one with this id", duplicate.Message);
        Assert.Single(await good);
        Assert.Empty(await host.Thread.GenerateAsync([], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Failure_of_the_engine_fails_waiting_and_later_calls()
    {
        await using var host = new Host();
        var waiting = host.Thread.GenerateAsync([Request("r", 1, 200)], TestContext.Current.CancellationToken);
        await host.Thread.BetweenStepsAsync(e =>
        {
            using var none = TorchSharp.torch.no_grad();
            return e.Weights.Flat.fill_(float.NaN).numel();
        });
        Assert.Contains(
            "not finite",
            (
                await Assert.ThrowsAsync<InvalidOperationException>(() =>
                    waiting.WaitAsync(Patience, TestContext.Current.CancellationToken)
                )
            ).Message
        );
        Assert.Contains(
            "not finite",
            (await Assert.ThrowsAsync<InvalidOperationException>(() => host.Thread.BetweenStepsAsync(_ => 0))).Message
        );
    }

    [Fact]
    public async Task Engine_that_cannot_be_made_fails_calls_with_the_reason()
    {
        await using var thread = new EngineThread(() => throw new FileNotFoundException("no such model"));
        Assert.Contains(
            "no such model",
            (
                await Assert.ThrowsAsync<InvalidOperationException>(() =>
                    thread.BetweenStepsAsync(_ => 0).WaitAsync(Patience, TestContext.Current.CancellationToken)
                )
            ).Message
        );
    }

    [Fact]
    public async Task Work_between_steps_runs_while_requests_run_and_its_exception_is_the_callers()
    {
        await using var host = new Host();
        var call = host.Thread.GenerateAsync([Request("r", 1, 200)], TestContext.Current.CancellationToken);
        Assert.True(
            await host.Thread.BetweenStepsAsync(e =>
            {
                e.SetWeightVersion(9);
                return e.HasWork;
            })
        );
        await Assert.ThrowsAsync<TimeZoneNotFoundException>(() =>
            host.Thread.BetweenStepsAsync<int>(_ => throw new TimeZoneNotFoundException())
        );
        Assert.Equal(9, (await call)[0].WeightVersions[^1]);
    }

    [Theory, InlineData(0), InlineData(60)]
    public async Task Disposal_aborts_or_drains(int drainSeconds)
    {
        var host = new Host(TimeSpan.FromSeconds(drainSeconds));
        var call = host.Thread.GenerateAsync([Request("r", 1, 200)], TestContext.Current.CancellationToken);
        await host.Thread.BetweenStepsAsync(_ => 0);
        await host.DisposeAsync();
        if (drainSeconds == 0)
            await Assert.ThrowsAsync<OperationCanceledException>(() => call);
        else
            Assert.Equal(200, (await call)[0].Tokens.Length);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => host.Thread.BetweenStepsAsync(_ => 0));
    }
}
