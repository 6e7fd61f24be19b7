using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>The head is killed and started again in the middle of rollouts.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class HeadRestartTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private readonly ConcurrentQueue<string> log = [];
    private int batches;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Workers_and_trainer_continue_without_a_head_and_are_back_with_the_next_one(bool redis)
    {
        using var server = redis ? await RedisServer.StartAsync() : null;
        int port = SiloSetup.FreePort(IPAddress.Loopback, following: 1);
        string[] command = HeadCommand(port, server);
        var address = new HeadAddress($"127.0.0.1:{port}", null);
        using var weights = NewWeights();
        var head = ProgramRun.Start(command);
        try
        {
            await head.SaysAsync("head ready");
            await using var a = Worker(address, "a");
            await using var b = Worker(address, "b");
            await using var cluster = await TrainerAsync(address);
            var pool = cluster.Workers;
            await TwoHaveJoinedAsync(pool);
            await pool.PushWeightsAsync(weights, 1, Cancel);
            string[] instances = [.. pool.Status().Select(w => w.Instance)];

            using var enough = new CancellationTokenSource();
            var rollouts = Task.Run(() => RolloutsAsync(pool, enough), Cancel);
            for (int round = 0; round < 2; round++)
            {
                await KillAndContinueAsync(head, rollouts);
                head.Dispose();
                head = ProgramRun.Start(command);
                await head.SaysAsync("head ready");
                await AllBackAsync(redis ? "redis" : "embedded", address, pool, rollouts);
            }
            enough.Cancel();
            await rollouts;
            Assert.Equal(instances, pool.Status().Select(w => w.Instance)); // no process was started anew
            Assert.Equal([1, 2], (await pool.PushWeightsAsync(weights, 2, Cancel)).Workers.Order());
            Assert.DoesNotContain(log, line => line.Contains("was lost"));
        }
        finally
        {
            head.Dispose();
        }
    }

    private static string[] HeadCommand(int port, RedisServer? server) =>
        [
            "head",
            "--port",
            $"{port}",
            .. server is null ? Array.Empty<string>() : ["--membership", server.Address, "--cluster", "restart"],
        ];

    private static FlatWeights NewWeights()
    {
        var weights = SharedWeightMemory.Allocate(new WeightLayout(ClusterSelfTest.TinyModel));
        weights.Flat.uniform_(-0.1, 0.1);
        return weights;
    }

    private WorkerMachine Worker(HeadAddress head, string name) =>
        WorkerMachine.Start(
            new()
            {
                Head = head,
                Name = name,
                Worker = new() { Threads = 1 },
                Command = [.. ProgramRun.Program, "worker"],
                Log = log.Enqueue,
            }
        );

    private Task<TrainerCluster> TrainerAsync(HeadAddress head) =>
        TrainerCluster.StartAsync(
            new()
            {
                Join = head,
                Log = log.Enqueue,
                StartTimeout = Patience,
                SilenceTimeout = Patience,
                WorkerWait = Patience,
                RejoinTimeout = Patience,
            },
            new(ClusterSelfTest.TinyModel, null, new() { KvCacheBytes = 16 << 20 }),
            Cancel
        );

    private Task TwoHaveJoinedAsync(WorkerPool pool) =>
        WaitAsync(() => pool.Status().Count(w => w.State == WorkerState.Waiting) == 2, "two workers to join");

    /// <summary>Samples batch after batch: each completion once, and by the first weights.</summary>
    private async Task RolloutsAsync(WorkerPool pool, CancellationTokenSource enough)
    {
        while (!enough.IsCancellationRequested)
        {
            var seen = new HashSet<(string, int)>();
            await foreach (var completion in pool.GenerateAsync(Requests(), NeverEnough.Token, Cancel))
                Assert.True(
                    seen.Add((completion.RequestId, completion.SampleIndex))
                        && completion.WeightVersions.All(v => v == 1)
                );
            Assert.Equal(40, seen.Count);
            batches++;
        }
    }

    private async Task KillAndContinueAsync(ProgramRun head, Task rollouts)
    {
        head.Signal(ProgramRun.Kill);
        await head.EndAsync();
        int before = batches;
        await WaitAsync(() => batches > before + 1 || rollouts.IsFaulted, "rollouts to continue without a head");
    }

    private async Task AllBackAsync(string membership, HeadAddress head, WorkerPool pool, Task rollouts)
    {
        var clock = Stopwatch.StartNew();
        await WaitAsync(
            () => Back(head) && pool.Status().All(w => w.State == WorkerState.Ready) || rollouts.IsFaulted,
            "all to be back"
        );
        TestContext.Current.SendDiagnosticMessage(
            $"{membership}: all back {clock.Elapsed.TotalSeconds:F1} s after the head was ready again"
        );
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(60), $"back after {clock.Elapsed.TotalSeconds:F1} s");
    }

    private async Task WaitAsync(Func<bool> condition, string awaited)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); await Task.Delay(100, Cancel))
            Assert.True(
                clock.Elapsed < Patience,
                $"waited {Patience.TotalSeconds} s for {awaited}; log:\n{string.Join('\n', log)}"
            );
    }

    /// <summary>The trainer reports, which it does only when it has joined the new cluster; so do the workers.</summary>
    private static bool Back(HeadAddress address)
    {
        var status = ClusterClient.StatusAsync(address, Cancel).GetAwaiter().GetResult();
        return status.Trainer is { WeightVersion: >= 0 } && status.Workers.Count(w => w.State == "ready") == 2;
    }

    private static GenerationRequest[] Requests() =>
        [
            .. Enumerable
                .Range(0, 20)
                .Select(i => new GenerationRequest(
                    $"r{i}",
                    [1, 2, 3 + i],
                    new()
                    {
                        Samples = 2,
                        MaxTokens = 40,
                        Seed = (ulong)i,
                        IgnoreEos = true,
                    }
                )),
        ];
}
