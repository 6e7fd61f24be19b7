using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Models;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync.Security;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>Workers that the head refuses, and workers that leave in order.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class LeaveTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly ConcurrentQueue<string> log = [];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private Task<ClusterHead> HeadAsync(ClusterKey? key = null) =>
        ClusterHead.StartAsync(
            new()
            {
                Address = IPAddress.Loopback,
                Key = key,
                Log = log.Enqueue,
            },
            Cancel
        );

    private static ProgramRun Worker(string join, string name, params string[] more) =>
        ProgramRun.Start(["worker", "--join", join, "--name", name, "--threads", "1", .. more]);

    private async Task WaitAsync(Func<bool> condition, string awaited)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); await Task.Delay(10, Cancel))
            Assert.True(clock.Elapsed < Patience, $"waited for {awaited}; log:\n{string.Join('\n', log)}");
    }

    [Fact]
    public async Task Taken_name_ends_the_second_worker_and_leaves_the_first()
    {
        await using var head = await HeadAsync();
        using var first = Worker(head.Join, "a");
        await WaitAsync(() => head.Status().Workers.Any(w => w.State == "joined"), "the first worker");
        using var second = Worker(head.Join, "a");
        Assert.Equal(1, await second.EndAsync());
        Assert.Contains("a worker named 'a' is there already", second.Errors);
        Assert.Contains("another --name", second.Errors);
        Assert.False(first.HasEnded);
        first.Signal(ProgramRun.Terminate);
        Assert.Equal(0, await first.EndAsync());
    }

    [Fact]
    public async Task Wrong_key_or_none_ends_the_worker()
    {
        var key = ClusterKey.Parse(ClusterKey.NewText());
        await using var head = await HeadAsync(key);
        using var other = Worker(head.Join, "a", "--key", ClusterKey.NewText());
        using var without = Worker(head.Join, "b");
        Assert.Equal(1, await other.EndAsync());
        Assert.Contains("give both the same --key", other.Errors);
        Assert.Equal(1, await without.EndAsync());
        Assert.Contains("it has a cluster key; give the same one with --key", without.Errors);
    }

    [Fact]
    public async Task Idle_worker_that_is_drained_has_left_and_each_log_says_so_once()
    {
        await using var head = await HeadAsync();
        using var weights = SharedWeightMemory.Allocate(new WeightLayout(ClusterSelfTest.TinyModel));
        await using var trainer = await TrainerCluster.StartAsync(
            new()
            {
                Join = new(head.Join, null),
                Log = log.Enqueue,
                Name = "test",
            },
            new(ClusterSelfTest.TinyModel, null, new() { KvCacheBytes = 16 << 20 }),
            Cancel
        );
        using var worker = Worker(head.Join, "a");
        await trainer.Workers.PushWeightsAsync(weights, 0, Cancel);
        await WaitAsync(() => trainer.Workers.Status().Any(w => w.State == WorkerState.Ready), "the worker");
        await ClusterClient.DrainAsync(new(head.Join, null), "a", Cancel);
        Assert.Equal(0, await worker.EndAsync());
        await WaitAsync(() => head.Status().Workers.Count == 0, "the head to forget the worker");
        await WaitAsync(() => log.Contains("a has left (drained)"), "the trainer to know");
        Assert.Single(log, line => line.StartsWith("a has left", StringComparison.Ordinal));
        Assert.Single(log, line => line.StartsWith("a has joined", StringComparison.Ordinal));
        Assert.Single(log, line => line.StartsWith("worker a ", StringComparison.Ordinal));
        Assert.DoesNotContain(log, line => line.Contains("was lost") || line.Contains("is gone"));
    }
}
