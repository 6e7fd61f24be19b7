using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;
using Xunit;

namespace SimpleR1.Tests.Training.Rewards;

/// <summary>Time limits, overlapping calls, groups.</summary>
public sealed class RewardCallTests
{
    private readonly ConcurrentQueue<string> lines = new();

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private static RewardInput Input(string completion) =>
        new(new Problem("What is 6 * 7?", "42", new Dictionary<string, JsonNode?>()), completion, false);

    private RewardSet Set(RewardFunction reward, RewardLimits limits) =>
        new([new("mine", 1, reward) { Limits = limits }], lines.Enqueue);

    private static RewardLimits Short(TimeoutAction action) =>
        new() { Timeout = TimeSpan.FromMilliseconds(200), OnTimeout = action };

    [Fact]
    public async Task Reward_that_never_returns_is_named_and_then_stops_the_run()
    {
        using var release = new ManualResetEventSlim();
        var set = Set(
            RewardFunction.Plain(_ =>
            {
                release.Wait(Stop); // ignores its cancellation
                return 1;
            }),
            Short(TimeoutAction.Stop)
        );
        var error = await Assert.ThrowsAsync<RewardException>(async () =>
            await set.ScoreAsync(Input("while (true)"), Stop)
        );
        release.Set();
        Assert.StartsWith("the reward 'mine' took longer than 0.2 s", error.Message);
        Assert.Contains("completion: while (true)", error.Message);
        Assert.Equal("mine", error.Reward);
        Assert.Equal("while (true)", Assert.Single(error.Inputs).Completion);
        Assert.Contains(
            lines,
            l => l.StartsWith("the reward 'mine' has taken 0.1 s of 0.2 s", StringComparison.Ordinal)
        );
        Assert.Contains(lines, l => l.EndsWith("begins: while (true)", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Reward_that_never_returns_is_worth_0_when_the_recipe_says_so_and_others_go_on()
    {
        using var release = new ManualResetEventSlim();
        var set = Set(
            RewardFunction.Plain(input =>
            {
                if (input.Completion == "hang")
                    release.Wait(Stop);
                return 1;
            }),
            Short(TimeoutAction.Zero)
        );
        var hung = await set.ScoreAsync(Input("hang"), Stop);
        var next = await set.ScoreAsync(Input("fine"), Stop);
        release.Set();
        Assert.Equal((0.0, 1), (hung.Total, hung.TimedOut));
        Assert.Equal((1.0, 0), (next.Total, next.TimedOut));
        Assert.True(set.MayTimeOut);
    }

    [Fact]
    public async Task Reward_that_waits_is_cancelled_at_its_limit()
    {
        var cancelled = new TaskCompletionSource();
        var set = Set(
            RewardFunction.Async(
                async (_, stop) =>
                {
                    try
                    {
                        await Task.Delay(Timeout.Infinite, stop);
                    }
                    finally
                    {
                        cancelled.SetResult();
                    }
                    return 1;
                }
            ),
            Short(TimeoutAction.Zero)
        );
        Assert.Equal(1, (await set.ScoreAsync(Input("a"), Stop)).TimedOut);
        await cancelled.Task.WaitAsync(TimeSpan.FromSeconds(20), Stop);
    }

    [Fact]
    public async Task Calls_overlap_up_to_the_limit_when_the_reward_waits()
    {
        var both = new CountdownEvent(3);
        int now = 0;
        int most = 0;
        var set = Set(
            RewardFunction.Async(
                async (_, stop) =>
                {
                    int inside = Interlocked.Increment(ref now);
                    lock (both)
                        most = Math.Max(most, inside);
                    await Task.Delay(20, stop);
                    Interlocked.Decrement(ref now);
                    return 1;
                }
            ),
            new() { Concurrency = 3 }
        );
        await Task.WhenAll(Enumerable.Range(0, 12).Select(i => set.ScoreAsync(Input($"{i}"), Stop).AsTask()));
        Assert.InRange(most, 2, 3);
        both.Dispose();
    }

    [Fact]
    public async Task Calls_of_a_plain_reward_never_overlap_and_never_block_the_caller()
    {
        int calls = 0; // not synchronized
        using var start = new ManualResetEventSlim();
        var set = Set(
            RewardFunction.Plain(_ =>
            {
                start.Wait(Stop);
                int before = calls;
                Thread.SpinWait(200);
                calls = before + 1;
                return 1;
            }),
            new()
        );
        var scores = Enumerable.Range(0, 300).Select(i => set.ScoreAsync(Input($"{i}"), Stop).AsTask()).ToArray();
        start.Set();
        await Task.WhenAll(scores);
        Assert.Equal(300, calls);
    }

    [Theory]
    [InlineData(1, "returned 1 numbers for a group of 2")]
    [InlineData(3, "returned 3 numbers for a group of 2")]
    public async Task Group_reward_must_return_a_number_for_each_completion(int count, string expected)
    {
        var set = Set(RewardFunction.Group((_, _) => new(new double[count])), new());
        RewardInput[] inputs = [Input("a"), Input("b")];
        Score[] scores = [await set.ScoreAsync(inputs[0], Stop), await set.ScoreAsync(inputs[1], Stop)];
        var error = await Assert.ThrowsAsync<RewardException>(async () =>
            await set.ScoreGroupAsync(inputs, scores, Stop)
        );
        Assert.Contains(expected, error.Message);
    }

    [Fact]
    public async Task Failed_completions_are_kept_in_full()
    {
        string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        try
        {
            string completion = new('x', 5000);
            var set = Set(RewardFunction.Plain(_ => throw new FormatException("no")), new());
            var error = await Assert.ThrowsAsync<RewardException>(async () =>
                await set.ScoreAsync(Input(completion), Stop)
            );
            Assert.EndsWith($"in full: {path}", error.WithFile(path).Message);
            var line = JsonNode.Parse(Assert.Single(await File.ReadAllLinesAsync(path, Stop)))!;
            Assert.Equal(("mine", completion), ((string)line["reward"]!, (string)line["completion"]!));
            Assert.Equal(("What is 6 * 7?", "42"), ((string)line["question"]!, (string)line["gold"]!));
        }
        finally
        {
            File.Delete(path);
        }
    }
}
