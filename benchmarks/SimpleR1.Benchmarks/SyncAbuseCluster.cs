using System.Diagnostics;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.Benchmarks;

/// <summary>A trainer and its workers, with checks after each update. Updates can be disturbed at the start of a phase.</summary>
internal abstract class SyncAbuseCluster(SyncAbuseWorkers workers) : IAsyncDisposable
{
    protected static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly List<string> log = [];
    private TrainerCluster? cluster;

    protected Random Random { get; } = new(1);
    protected SyncAbuseWorkers Workers => workers;
    protected FlatWeights Weights { get; } = SharedWeightMemory.Allocate(new WeightLayout(workers.Model));
    protected TrainerCluster Cluster => cluster!;
    protected WorkerPool Pool => Cluster.Workers;

    /// <summary>What the next update does when it enters a phase, once.</summary>
    protected (UpdatePhase Phase, Action Act)? Armed { get; set; }
    protected int Version { get; private set; } = -1;

    /// <summary>Time of the last update.</summary>
    protected TimeSpan Took { get; private set; }

    protected async Task StartAsync()
    {
        Weights.Flat.uniform_(-0.1, 0.1);
        cluster = await TrainerCluster.StartAsync(
            new()
            {
                Workers = Workers.Count,
                Worker = new() { Device = Workers.Device, Threads = 1 },
                SendDevice = Workers.SendDevice,
                Transport = Workers.Transport,
                StartTimeout = Patience,
                WorkerCommand = Command(Workers.Count, "worker"),
                StartAttempts = 10,
                Log = line =>
                {
                    lock (log)
                        log.Add(line);
                },
                Phase = phase =>
                {
                    if (Armed is not { } act || act.Phase != phase)
                        return;
                    Armed = null;
                    act.Act();
                },
            },
            new(Workers.Model, null, new() { KvCacheBytes = 16 << 20 })
        );
        await PushAsync();
    }

    protected string[] Command(int workersThere, params string[] arguments) =>
        ThisProgram.Worker(Workers.Device, Workers.SendDevice, workersThere, arguments);

    protected WorkerMachine Extra(string name, params string[] arguments) =>
        WorkerMachine.Start(
            new()
            {
                Head = new(cluster!.Join, null),
                Name = name,
                Worker = new()
                {
                    Device = Workers.Device,
                    Threads = 1,
                    DrainTimeout = TimeSpan.FromSeconds(1),
                },
                Command = Command(Workers.Count + 1, arguments),
                Log = _ => { },
            }
        );

    protected async Task<SyncReport> PushAsync(bool verify = true)
    {
        Weights.Flat.mul_(1 + 0.01f * (Version % 2 == 0 ? 1 : -1));
        using (var part = Weights.Flat.narrow(0, Random.Next(1000), 10)) // held: the collector would free it under the call
            part.uniform_(-0.1, 0.1);
        var clock = Stopwatch.StartNew();
        var report = await Pool.PushWeightsAsync(Weights, ++Version).WaitAsync(Patience);
        Took = clock.Elapsed;
        if (verify)
        {
            await RequireHeldAsync();
            await RequireSampledAsync();
        }

        return report;
    }

    /// <summary>Every worker's engine must compute with the trainer's weights.</summary>
    private async Task RequireHeldAsync()
    {
        var all = await Pool.HeldWeightsAsync(CancellationToken.None);
        while (all.Count == 0) // the only worker was lost just now
        {
            await WaitAsync(() => Pool.Count(WorkerState.Ready) > 0, "a worker to hold weights");
            all = await Pool.HeldWeightsAsync(CancellationToken.None);
        }

        foreach (var (name, type, held, hash) in all)
            Require(
                held == Version && hash == WeightHash.Of(Weights, type),
                $"{name} computes with version {held}, hash {hash:x16}; "
                    + $"the trainer has version {Version}, hash {WeightHash.Of(Weights, type):x16}"
            );
    }

    /// <summary>Every sample must come, and carry the trainer's version.</summary>
    private async Task RequireSampledAsync()
    {
        GenerationRequest[] requests =
        [
            .. Enumerable
                .Range(0, 6)
                .Select(i => new GenerationRequest(
                    $"r{i}",
                    [1, 2, 3 + i],
                    new()
                    {
                        Samples = 1,
                        MaxTokens = 4,
                        IgnoreEos = true,
                    }
                )),
        ];
        int samples = 0;
        await foreach (var completion in Pool.GenerateAsync(requests, Patience, enough: default))
        {
            samples++;
            Require(
                completion.WeightVersions.All(v => v == Version),
                $"a sample carries versions {string.Join(", ", completion.WeightVersions.Distinct())}, "
                    + $"the trainer has {Version}"
            );
        }
        Require(samples == requests.Length, $"{samples} of {requests.Length} samples came");
    }

    protected bool Logged(string text)
    {
        lock (log)
            return log.Any(line => line.Contains(text));
    }

    protected async Task WaitAsync(Func<bool> condition, string awaited)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); await Task.Delay(10))
        {
            lock (log)
                Require(
                    clock.Elapsed < Patience,
                    $"waited {Patience.TotalSeconds} s for {awaited}:\n{string.Join('\n', log.TakeLast(20))}"
                );
        }
    }

    protected static void Require(bool condition, string problem)
    {
        if (!condition)
            throw new InvalidOperationException(problem);
    }

    public async ValueTask DisposeAsync()
    {
        if (cluster is not null)
            await cluster.DisposeAsync();
        Weights.Dispose();
    }
}
