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

    [Fact]
    public async Task Deltas_that_arrive_while_workers_decode_give_the_trainers_weights_and_only_committed_versions()
    {
        using var weights = SharedWeightMemory.Allocate(new WeightLayout(ClusterSelfTest.TinyModel));
        weights.Flat.uniform_(-0.1, 0.1);
        var log = new ConcurrentQueue<string>();
        await using var cluster = await TrainerCluster.StartAsync(
            new()
            {
                Workers = Workers,
                Worker = new() { Threads = 1 },
                Transport = WeightTransportChoice.Tcp,
                Overlap = true,
                Delta = true,
                StartTimeout = Patience,
                WorkerCommand = [.. ProgramRun.Program, "worker"],
                Log = log.Enqueue,
            },
            new(ClusterSelfTest.TinyModel, null, new() { KvCacheBytes = 16 << 20 }),
            Cancel
        );
        var pool = cluster.Workers;
        Assert.Equal(Workers * weights.ByteLength, (await PushAsync(0)).SentBytes); // they hold nothing yet

        var seen = new SortedSet<int>();
        int committed = 0;
        using var enough = new CancellationTokenSource();
        var generating = Task.Run(
            async () =>
            {
                for (int batch = 0; !enough.IsCancellationRequested; batch++)
                {
                    int first = Volatile.Read(ref committed);
                    var requests = Enumerable
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
                        ))
                        .ToArray();
                    int samples = 0;
                    await foreach (var completion in pool.GenerateAsync(requests, Patience, enough: default, Cancel))
                    {
                        samples++;
                        Assert.Equal(100, completion.Tokens.Length);
                        Assert.Equal(completion.WeightVersions.Order(), completion.WeightVersions); // old first, then new
                        // Workers may have committed the next version before the push returns here.
                        Assert.InRange(completion.WeightVersions[0], first, Volatile.Read(ref committed) + 1);
                        Assert.InRange(completion.WeightVersions[^1], first, LastVersion);
                        lock (seen)
                            seen.UnionWith(completion.WeightVersions);
                    }
                    Assert.Equal(2 * requests.Length, samples);
                }
            },
            Cancel
        );
        for (int version = 1; version <= LastVersion; version++)
        {
            int before = version - 1;
            await UntilAsync(
                () =>
                {
                    lock (seen)
                        return seen.Contains(before);
                },
                $"tokens of version {before}"
            ); // the push is in the middle of work
            Change(weights, version);
            var report = await PushAsync(version);
            // 1% changed: 6 to 7 bytes for each of them
            Assert.InRange(report.SentBytes, 1, Workers * weights.ByteLength / 10);
            Volatile.Write(ref committed, version);
        }
        await UntilAsync(
            () =>
            {
                lock (seen)
                    return seen.Contains(LastVersion);
            },
            "tokens of the last version"
        );
        enough.Cancel();
        await generating;
        Assert.Equal(Enumerable.Range(0, LastVersion + 1), seen);
        Assert.Empty(log);

        async Task<SyncReport> PushAsync(int version)
        {
            var report = await pool.PushWeightsAsync(weights, version, Cancel);
            Assert.Equal(
                (WeightHash.Of(weights), "tcp", Workers),
                (report.Hash, report.Transport, report.Workers.Count)
            );
            Assert.Empty(report.Dropped);
            var held = await pool.HeldWeightsAsync(Cancel);
            Assert.Equal(Workers, held.Count);
            Assert.All(held, w => Assert.Equal((version, report.Hash), (w.Version, w.Hash)));
            return report;
        }

        async Task UntilAsync(Func<bool> condition, string awaited)
        {
            for (var clock = System.Diagnostics.Stopwatch.StartNew(); !condition(); await Task.Delay(5, Cancel))
            {
                if (generating.IsFaulted)
                    await generating;
                Assert.True(
                    clock.Elapsed < Patience,
                    $"waited {Patience.TotalSeconds} s for {awaited}; log:\n{string.Join('\n', log)}"
                );
            }
        }
    }

    /// <summary>Every hundredth element, other ones each time.</summary>
    private static unsafe void Change(FlatWeights weights, int version)
    {
        for (long i = version; i < weights.Layout.Length; i += 100)
            ((float*)weights.Pointer)[i] *= 1.5f;
    }
}
