using System.Collections.Concurrent;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>Weight updates that overlap with decoding and send what has changed only, in a whole cluster.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class OverlapDeltaTests
{
    private const int Workers = 2,
        LastVersion = 5;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private readonly ConcurrentQueue<string> log = [];
    private readonly SortedSet<int> seen = [];
    private int committed;

    [Fact]
    public async Task Deltas_that_arrive_while_workers_decode_give_the_trainers_weights_and_only_committed_versions()
    {
        using var weights = SharedWeightMemory.Allocate(new WeightLayout(ClusterSelfTest.TinyModel));
        weights.Flat.uniform_(-0.1, 0.1);
        await using var cluster = await StartAsync();
        var pool = cluster.Workers;
        Assert.Equal(Workers * weights.ByteLength, (await PushAsync(pool, weights, 0)).SentBytes); // they hold nothing yet

        using var enough = new CancellationTokenSource();
        var generating = Task.Run(() => GenerateAsync(pool, enough), Cancel);
        for (int version = 1; version <= LastVersion; version++)
        {
            await SeenAsync(version - 1, generating); // the push is in the middle of work
            Change(weights, version);
            var report = await PushAsync(pool, weights, version);
            // 1% changed: 6 to 7 bytes for each of them
            Assert.InRange(report.SentBytes, 1, Workers * weights.ByteLength / 10);
            Volatile.Write(ref committed, version);
        }
        await SeenAsync(LastVersion, generating);
        enough.Cancel();
        await generating;
        Assert.Equal(Enumerable.Range(0, LastVersion + 1), seen);
        Assert.Empty(log);
    }

    private Task<TrainerCluster> StartAsync() =>
        TrainerCluster.StartAsync(
            new()
            {
                Workers = Workers,
                Worker = new() { Threads = 1 },
                Transport = WeightTransportChoice.Tcp,
                Overlap = true,
                Delta = true,
                StartTimeout = Patience,
                SilenceTimeout = Patience,
                WorkerCommand = [.. ProgramRun.Program, "worker"],
                Log = log.Enqueue,
            },
            new(ClusterSelfTest.TinyModel, null, new() { KvCacheBytes = 16 << 20 }),
            Cancel
        );

    /// <summary>Samples batch after batch, and notes the versions that tokens are of.</summary>
    private async Task GenerateAsync(WorkerPool pool, CancellationTokenSource enough)
    {
        for (int batch = 0; !enough.IsCancellationRequested; batch++)
        {
            int first = Volatile.Read(ref committed);
            var requests = Requests(batch);
            int samples = 0;
            await foreach (var completion in pool.GenerateAsync(requests, Patience, enough: default, Cancel))
            {
                samples++;
                CheckVersions(completion, first);
                lock (seen)
                    seen.UnionWith(completion.WeightVersions);
            }
            Assert.Equal(2 * requests.Length, samples);
        }
    }

    private static GenerationRequest[] Requests(int batch) =>
        [
            .. Enumerable
                .Range(0, 8)
                .Select(i => new GenerationRequest(
                    $"{batch}-{i}",
                    [1, 2, 3 + i],
                    new()
                    {
                        Samples = 2,
                        MaxTokens = 100,
                        Seed = (ulong)(batch * 8 + i),
                        IgnoreEos = true,
                    }
                )),
        ];

    private void CheckVersions(Completion completion, int first)
    {
        Assert.Equal(100, completion.Tokens.Length);
        Assert.Equal(completion.WeightVersions.Order(), completion.WeightVersions); // old first, then new
        // Workers may have committed the next version before the push returns here.
        Assert.InRange(completion.WeightVersions[0], first, Volatile.Read(ref committed) + 1);
        Assert.InRange(completion.WeightVersions[^1], first, LastVersion);
    }

    private static async Task<SyncReport> PushAsync(WorkerPool pool, FlatWeights weights, int version)
    {
        var report = await pool.PushWeightsAsync(weights, version, Cancel);
        Assert.Equal((WeightHash.Of(weights), "tcp", Workers), (report.Hash, report.Transport, report.Workers.Count));
        Assert.Empty(report.Dropped);
        var held = await pool.HeldWeightsAsync(Cancel);
        Assert.Equal(Workers, held.Count);
        Assert.All(held, w => Assert.Equal((version, report.Hash), (w.Version, w.Hash)));
        return report;
    }

    /// <summary>Waits for tokens of this version.</summary>
    private async Task SeenAsync(int version, Task generating)
    {
        for (var clock = System.Diagnostics.Stopwatch.StartNew(); !Has(); await Task.Delay(5, Cancel))
        {
            if (generating.IsFaulted)
                await generating;
            Assert.True(
                clock.Elapsed < Patience,
                $"waited {Patience.TotalSeconds} s for tokens of version {version}; log:\n{string.Join('\n', log)}"
            );
        }

        bool Has()
        {
            lock (seen)
                return seen.Contains(version);
        }
    }

    /// <summary>Every hundredth element, other ones each time.</summary>
    private static unsafe void Change(FlatWeights weights, int version)
    {
        for (long i = version; i < weights.Layout.Length; i += 100)
            ((float*)weights.Pointer)[i] *= 1.5f;
    }
}
