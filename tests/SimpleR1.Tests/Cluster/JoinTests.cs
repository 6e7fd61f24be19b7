using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>A head, workers that join it by its address and key, and a trainer that uses them.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class JoinTests : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);
    private static readonly ModelConfig Model = ClusterSelfTest.TinyModel;

    private readonly ConcurrentQueue<string> log = [];
    private readonly FlatWeights weights = SharedWeightMemory.Allocate(new WeightLayout(Model));
    private readonly List<IAsyncDisposable> started = [];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask DisposeAsync()
    {
        foreach (var one in started.AsEnumerable().Reverse())
            await one.DisposeAsync();
        weights.Dispose();
    }

    private async Task<ClusterHead> HeadAsync(ClusterKey? key = null)
    {
        var head = await ClusterHead.StartAsync(
            new()
            {
                Key = key,
                Address = IPAddress.Loopback,
                Log = log.Enqueue,
            },
            Cancel
        );
        started.Add(head);
        return head;
    }

    private WorkerMachine Worker(HeadAddress head, string name)
    {
        var machine = WorkerMachine.Start(
            new()
            {
                Head = head,
                Name = name,
                Worker = new() { Threads = 1 },
                Command = [.. ProgramRun.Program, "worker"],
                Log = log.Enqueue,
            }
        );
        started.Add(machine);
        return machine;
    }

    private async Task<WorkerPool> TrainerAsync(HeadAddress head, Func<ClusterOptions, ClusterOptions>? change = null)
    {
        weights.Flat.uniform_(-0.1, 0.1);
        ClusterOptions options = new()
        {
            Join = head,
            Log = log.Enqueue,
            StartTimeout = Patience,
            SilenceTimeout = Patience,
            WorkerWait = Patience,
            Name = "test",
        };
        var cluster = await TrainerCluster.StartAsync(
            change?.Invoke(options) ?? options,
            new(Model, null, new() { KvCacheBytes = 16 << 20 }),
            Cancel
        );
        started.Add(cluster);
        return cluster.Workers;
    }

    private static GenerationRequest[] Requests(int count, int samples = 2, int tokens = 100) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(i => new GenerationRequest(
                    $"r{i}",
                    [1, 2, 3 + i],
                    new()
                    {
                        Samples = samples,
                        MaxTokens = tokens,
                        Seed = (ulong)i,
                        IgnoreEos = true,
                    }
                )),
        ];

    private static async Task<List<Completion>> GenerateAsync(WorkerPool pool, GenerationRequest[] requests)
    {
        var completions = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, NeverEnough.Token, Cancel))
            completions.Add(completion);
        return completions;
    }

    private static void RequireEachOnce(GenerationRequest[] requests, List<Completion> completions) =>
        Assert.Equal(
            requests.SelectMany(r => Enumerable.Range(0, r.Sampling.Samples).Select(j => (r.Id, j))).Order(),
            completions.Select(c => (c.RequestId, c.SampleIndex)).Order()
        );

    private async Task<double> WaitAsync(Func<bool> condition, string awaited)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(
                clock.Elapsed < Patience,
                $"waited {Patience.TotalSeconds} s for {awaited}; log:\n{string.Join('\n', log)}"
            );
            await Task.Delay(10, Cancel);
        }
        return clock.Elapsed.TotalSeconds;
    }

    private static bool Has(WorkerPool pool, string name, WorkerState state) =>
        pool.Status().Any(w => w.Name == name && w.State == state);

    [Fact]
    public async Task Workers_that_join_and_die_in_the_middle_cost_no_sample_and_joiners_get_weights_then_work()
    {
        var key = ClusterKey.Parse(ClusterKey.NewText()); // all of it over TLS
        var head = new HeadAddress((await HeadAsync(key)).Join, key);
        Worker(head, "a");
        var pool = await TrainerAsync(head, o => o with { QueueSamples = 8, Transport = WeightTransportChoice.Tcp });
        var report = await pool.PushWeightsAsync(weights, 5, Cancel);
        Assert.Equal(("tcp", WeightHash.Compute(weights.Pointer, weights.ByteLength)), (report.Transport, report.Hash));

        var requests = Requests(60, samples: 2, tokens: 300);
        var rollouts = GenerateAsync(pool, requests);
        Worker(head, "b");
        await WaitAsync(BHasWork, "b to hold the weights and get work");
        var a = pool.Status().Single(w => w.Name == "a");
        ProgramRun.SendSignal(a.ProcessId, ProgramRun.Kill);
        var completions = await rollouts;
        RequireEachOnce(requests, completions);
        Assert.All(completions, c => Assert.All(c.WeightVersions, v => Assert.Equal(5, v)));
        await WaitAsync(
            () =>
                pool.Status()
                    .Any(w =>
                        w.Name == "a" && w.State == WorkerState.Ready && w.Instance != a.Instance && w.Replacements == 1
                    ),
            "a's replacement"
        );
        Assert.Contains(log, line => line.StartsWith("a was lost: "));
        Assert.Equal([1, 2], (await pool.PushWeightsAsync(weights, 6, Cancel)).Workers.Order());

        bool BHasWork()
        {
            // On a busy machine all may be done before b has joined; then the same is asked for again
            if (rollouts.IsCompleted)
                rollouts = GenerateAsync(pool, requests);
            return pool.Status().Any(w => w.Name == "b" && w.OutstandingTokens > 0);
        }
    }

    [Fact]
    public async Task Trainer_waits_visibly_for_the_first_worker_and_when_all_are_gone()
    {
        var head = new HeadAddress((await HeadAsync()).Join, null);
        var pool = await TrainerAsync(head);
        var push = pool.PushWeightsAsync(weights, 0, Cancel);
        await WaitAsync(
            () => log.Any(l => l.StartsWith("Waiting for a worker to join the head at " + head.Join)),
            "the trainer to say what it waits for"
        );
        var first = Worker(head, "a");
        await push;
        var requests = Requests(20, tokens: 400);
        var rollouts = GenerateAsync(pool, requests);
        await WaitAsync(() => pool.Status()[0].OutstandingTokens > 0, "work to begin");
        await first.DisposeAsync(); // as if its machine was switched off
        await WaitAsync(
            () => log.Any(l => l.StartsWith("Waiting for a worker to be ready")),
            "the trainer to say that it waits again"
        );
        Worker(head, "b");
        RequireEachOnce(requests, await rollouts);
        var none = await TrainerTimesOutAsync();
        Assert.Contains("none; start some with simple-r1 worker --join", none.Message);
    }

    private async Task<TimeoutException> TrainerTimesOutAsync()
    {
        var pool = await TrainerAsync(
            new((await HeadAsync()).Join, null),
            o => o with { WorkerWait = TimeSpan.FromSeconds(1) }
        );
        return await Assert.ThrowsAsync<TimeoutException>(() => pool.PushWeightsAsync(weights, 0, Cancel));
    }

    [Fact]
    public async Task Drained_worker_finishes_what_it_has_and_leaves_and_nothing_is_lost()
    {
        var head = new HeadAddress((await HeadAsync()).Join, null);
        var a = Worker(head, "a");
        Worker(head, "b");
        var pool = await TrainerAsync(head, o => o with { QueueSamples = 8 });
        await pool.PushWeightsAsync(weights, 0, Cancel);
        await WaitAsync(() => pool.Status().Count(w => w.State == WorkerState.Ready) == 2, "both workers");
        Assert.Contains(
            "there are: a, b",
            (await Assert.ThrowsAsync<ArgumentException>(() => ClusterClient.DrainAsync(head, "c", Cancel))).Message
        );
        var requests = Requests(60, tokens: 800);
        var rollouts = GenerateAsync(pool, requests);
        await WaitAsync(() => pool.Status().All(w => w.OutstandingTokens > 0), "both to have work");
        await ClusterClient.DrainAsync(head, "a", Cancel);
        Assert.True(await a.RunAsync(Cancel).WaitAsync(Patience, Cancel));
        RequireEachOnce(requests, await rollouts);
        await WaitAsync(() => Has(pool, "a", WorkerState.Dead), "the trainer to know that a has left");
        Assert.Contains(log, line => line == "a has left (drained)");
        Assert.DoesNotContain(log, line => line.Contains("was lost"));
        await WaitAsync(
            () =>
                ClusterClient
                    .StatusAsync(head, Cancel)
                    .GetAwaiter()
                    .GetResult()
                    .Workers.Select(w => w.Name)
                    .SequenceEqual(["b"]),
            "the head to list b alone"
        );
    }

    [Fact]
    public async Task Terminated_worker_hands_over_what_it_cannot_finish_in_time_and_its_children_are_gone()
    {
        var head = new HeadAddress((await HeadAsync()).Join, null);
        using var a = ProgramRun.Start(
            "worker",
            "--join",
            head.Join,
            "--name",
            "a",
            "--threads",
            "1",
            "--drain-timeout",
            "1"
        );
        var pool = await TrainerAsync(head, o => o with { QueueSamples = 8 });
        await pool.PushWeightsAsync(weights, 0, Cancel);
        Worker(head, "b");
        var requests = Requests(40, samples: 1, tokens: 1000);
        var rollouts = GenerateAsync(pool, requests);
        await WaitAsync(
            () => Has(pool, "b", WorkerState.Ready) && pool.Status().All(w => w.OutstandingTokens > 0),
            "both to have work"
        );
        int[] children = a.Workers();
        Assert.Single(children);
        var clock = Stopwatch.StartNew();
        a.Signal(ProgramRun.Terminate);
        await a.EndAsync();
        TestContext.Current.SendDiagnosticMessage(
            $"left {clock.Elapsed.TotalSeconds:F1} s after SIGTERM with --drain-timeout 1"
        );
        await a.WorkersEndAsync();
        RequireEachOnce(requests, await rollouts);
    }

    [Fact]
    public async Task A_cluster_has_one_trainer_at_a_time_and_the_next_one_gets_the_workers()
    {
        var head = new HeadAddress((await HeadAsync()).Join, null);
        Worker(head, "a");
        var pool = await TrainerAsync(head);
        await pool.PushWeightsAsync(weights, 0, Cancel);
        Assert.Contains(
            "one trainer at a time",
            (await Assert.ThrowsAnyAsync<IOException>(() => TrainerAsync(head))).Message
        );
        await started[^1].DisposeAsync(); // the trainer
        await WaitAsync(
            () => ClusterClient.StatusAsync(head, Cancel).Result.Trainer is null,
            "the head to notice that the trainer has gone"
        );
        var next = await TrainerAsync(head);
        await next.PushWeightsAsync(weights, 0, Cancel);
        RequireEachOnce(Requests(3), await GenerateAsync(next, Requests(3)));
    }
}
