using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Ipc;
using SimpleR1.Tests.Cli;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu.Placement;

/// <summary>A trainer with weights and a pool on a GPU, and what its tests need; workers are real processes.</summary>
public abstract class ColocationTest : IDisposable
{
    private protected const byte Pattern = 0x5A;
    private protected static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private protected static readonly EngineOptions Sizes = new()
    {
        KvCacheBytes = 1 << 20,
        MaxSequences = 8,
        MaxBatchedTokens = 64,
        MaxContext = 64,
    };

    private protected readonly CudaDevice opened = Gpu.Require(); // for operations
    private protected readonly CudaDevice gpu; // the trainer's
    private protected readonly FlatWeights host = Gpu.TinyWeights();
    private protected readonly FlatWeights weights;
    private protected readonly DeviceMemory pool;
    private protected readonly ConcurrentQueue<string> log = [];

    private protected ColocationTest(ScalarType type)
    {
        NcclTests.Set("EMULATED_ONE_GPU", "1");
        gpu = opened.WithOwnStream();
        weights = host.CopyTo(gpu, type);
        pool = gpu.Allocate(IpcHandle.RoundUp(3 << 20), "a test's pool");
        gpu.Fill(pool.Pointer, Pattern, pool.Bytes);
        gpu.Synchronize();
    }

    private protected static CancellationToken Cancel => TestContext.Current.CancellationToken;
    private protected ScalarType Type => weights.Flat.dtype;

    private protected ClusterOptions Options(int workers, ColocatedMemory? memory) =>
        new()
        {
            Workers = workers,
            Worker = new()
            {
                Device = "cuda",
                Type = ElementType.Of(Type).Name,
                Threads = 1,
            },
            Colocated = memory,
            Log = log.Enqueue,
            StartTimeout = Patience,
            SilenceTimeout = Patience, // workers that end are seen at once; a busy machine makes others silent
            ResponseTimeout = Patience,
            WorkerCommand = [.. ProgramRun.Program, "worker"],
        };

    private protected static Task<TrainerCluster> StartAsync(ClusterOptions options) =>
        TrainerCluster.StartAsync(options, new(Gpu.TinyConfig, null, Sizes), Cancel);

    /// <summary>What an optimizer's step does: other weights, in place.</summary>
    private protected void ChangeWeights()
    {
        host.Flat.mul_(1.02f);
        using var copy = host.CopyTo(gpu, Type);
        gpu.CopyWithin(copy.Pointer, weights.Pointer, weights.ByteLength);
        gpu.Synchronize(); // before the copy is freed
    }

    /// <summary>What training does with the pool: it overwrites all of it.</summary>
    private protected void UsePool(ColocatedMemory memory)
    {
        gpu.Fill(memory.Pool.Pointer, Pattern, memory.Pool.Bytes);
        gpu.Synchronize();
    }

    private protected void AssertPoolIsIntact(ColocatedMemory memory) => Assert.Equal(-1, ChangedAt(memory));

    /// <summary>The first byte that the trainer has not written; -1 for none.</summary>
    private protected int ChangedAt(ColocatedMemory memory) =>
        gpu.Read<byte>(memory.Pool.Pointer, (int)memory.Pool.Bytes).AsSpan().IndexOfAnyExcept(Pattern);

    private protected static GenerationRequest[] Requests(int step, int count = 6) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(i => new GenerationRequest(
                    $"r{i}",
                    [1, 2, 3 + i],
                    new()
                    {
                        MaxTokens = 8,
                        Seed = (ulong)(10 * step + i),
                        IgnoreEos = true,
                    }
                )),
        ];

    private protected static async Task<List<Completion>> GenerateAsync(
        WorkerPool workers,
        GenerationRequest[] requests,
        Action<Completion>? arrived = null
    )
    {
        var completions = new List<Completion>();
        await foreach (var completion in workers.GenerateAsync(requests, NeverEnough.Token, Cancel))
        {
            completions.Add(completion);
            arrived?.Invoke(completion);
        }
        return [.. completions.OrderBy(c => c.RequestId, StringComparer.Ordinal)];
    }

    /// <summary>What an ordinary engine with memory of its own samples from the same weights, one request at a time.</summary>
    private protected List<Completion> Ordinary(GenerationRequest[] requests)
    {
        using var own = host.CopyTo(opened, Type);
        using var decoder = new Decoder(own);
        using var engine = new Engine(decoder, null, Sizes);
        var completions = new List<Completion>();
        foreach (var request in requests)
        {
            engine.Submit([request], onCompletion: completions.Add);
            while (engine.Step()) { }
        }
        return completions;
    }

    private protected static void AssertSame(List<Completion> expected, List<Completion> found, int version)
    {
        Assert.Equal(expected.Select(c => c.RequestId), found.Select(c => c.RequestId)); // each once
        Assert.Equal(expected.Select(c => c.Tokens), found.Select(c => c.Tokens));
        foreach (var (a, b) in expected.Zip(found))
        {
            Gpu.AssertClose(a.LogProbs, b.LogProbs, 1e-3);
            Assert.All(b.WeightVersions, v => Assert.Equal(version, v));
        }
    }

    private protected async Task WaitAsync(Func<bool> condition, string awaited)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); await Task.Delay(10, Cancel))
            Assert.True(clock.Elapsed < Patience, $"waited for {awaited}; log:\n{string.Join('\n', log)}");
    }

    public void Dispose()
    {
        pool.Dispose();
        weights.Dispose();
        host.Dispose();
        NcclTests.Set("EMULATED_ONE_GPU", null);
    }
}
