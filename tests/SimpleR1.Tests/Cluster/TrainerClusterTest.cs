using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>A cluster of real worker processes on a tiny random model, and what its tests need.</summary>
public abstract partial class TrainerClusterTest : IAsyncDisposable
{
    private protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);
    private protected static readonly ModelConfig Model = ClusterSelfTest.TinyModel;

    private protected readonly ConcurrentQueue<string> log = [];
    private protected readonly FlatWeights weights = SharedWeightMemory.Allocate(new WeightLayout(Model));
    private protected TrainerCluster? cluster;

    private protected static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private protected ClusterOptions Options(int workers) =>
        new()
        {
            Workers = workers,
            Worker = new() { Threads = 1 },
            WorkerCommand = [.. ProgramRun.Program, "worker"],
            StartTimeout = Patience,
            SilenceTimeout = Patience, // workers that end are seen at once; a busy machine makes others silent
            ResponseTimeout = Patience,
            Log = log.Enqueue,
        };

    private protected async Task<WorkerPool> StartAsync(ClusterOptions options)
    {
        weights.Flat.uniform_(-0.1, 0.1);
        cluster = await TrainerCluster.StartAsync(options, new(Model, null, new() { KvCacheBytes = 16 << 20 }), Cancel);
        return cluster.Workers;
    }

    private protected static GenerationRequest[] Requests(int count, int samples = 2, int tokens = 12, int more = 5) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(i => new GenerationRequest(
                    $"r{i}",
                    [1, 2, 3 + i],
                    new()
                    {
                        Samples = samples,
                        MaxTokens = tokens + more * i,
                        Seed = (ulong)i,
                        IgnoreEos = true,
                    }
                )),
        ];

    private protected static void RequireEachOnce(GenerationRequest[] requests, List<Completion> completions)
    {
        var expected = requests.SelectMany(r => Enumerable.Range(0, r.Sampling.Samples).Select(j => (r.Id, j))).Order();
        Assert.Equal(expected, completions.Select(c => (c.RequestId, c.SampleIndex)).Order());
        Assert.All(
            completions,
            c => Assert.Equal(requests.First(r => r.Id == c.RequestId).Sampling.MaxTokens, c.Tokens.Length)
        );
    }

    private protected async Task<List<Completion>> GenerateAsync(WorkerPool pool, GenerationRequest[] requests)
    {
        var completions = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, NeverEnough.Token, Cancel))
            completions.Add(completion);
        return completions;
    }

    private protected async Task WaitAsync(Func<bool> condition, string awaited)
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
    }

    private protected static bool Lives(int processId)
    {
        try
        {
            return !File.ReadLines($"/proc/{processId}/status").Any(l => l.StartsWith("State:\tZ"));
        }
        catch (Exception e) when (e is IOException)
        {
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private protected static partial int Signal(int processId, int signal);

    private protected const int Kill = 9,
        Stop = 19,
        Continue = 18,
        Interrupt = 2;

    public async ValueTask DisposeAsync()
    {
        if (cluster is not null)
        {
            int[] processes = [.. cluster.Workers.Status().Select(w => w.ProcessId).Where(id => id != 0)];
            await cluster.DisposeAsync();
            Assert.DoesNotContain(processes, Lives);
        }
        weights.Dispose();
    }
}
