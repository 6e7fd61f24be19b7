using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Wire;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>
/// Workers that compute on a GPU, in another element type than the trainer's f32: what they hold is hashed on the
/// device.
/// </summary>
[Collection("GPU"), Trait("Category", "Gpu"), Trait("Category", "GpuProcesses")]
public sealed class GpuWorkerTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(60);
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static IWeightTransport Make(string name) =>
        name == "tcp" ? new TcpTransport(timeout: Long, delta: true, connections: 2) : new SharedMemoryTransport();

    [Theory]
    [
        InlineData("tcp", ScalarType.BFloat16),
        InlineData("tcp", ScalarType.Float16),
        InlineData("tcp", ScalarType.Float32)
    ]
    [InlineData("shared-memory", ScalarType.BFloat16), InlineData("shared-memory", ScalarType.Float32)]
    public void Weights_arrive_on_the_device_in_its_type_with_the_hash_that_the_trainer_computes(
        string name,
        ScalarType type
    )
    {
        var gpu = Gpu.Require();
        using var trainer = Make(name);
        using var worker = Make(name);
        using var source = Gpu.TinyWeights();
        using var destination = new FlatWeights(source.Layout, type, gpu);
        for (int version = 0; version < 3; version++) // over TCP the last one is a delta
        {
            if (version < 2)
                source.Flat.mul_(-1.5f);
            else
            {
                using var part = source.Flat.narrow(0, 100, 37); // held: the collector would free it under the call
                part.add_(1f);
            }
            using var offer = trainer.Offer(source, BroadcastPlan.For(source, version, 4096, type), ["worker"]);
            ulong hash = worker.Receive(offer.Invitations[0], destination, Long, Cancel).Hash;
            Assert.Equal(WeightHash.Of(source, type), hash);
            using var expected = source.CopyTo(gpu, type);
            int count = (int)source.Layout.Length;
            Assert.Equal(
                Gpu.Download(gpu, expected.Pointer, count, type),
                Gpu.Download(gpu, destination.Pointer, count, type)
            );
        }
    }

    [Theory]
    [InlineData(false), InlineData(true)]
    public async Task Worker_on_a_gpu_holds_bf16_and_samples_the_committed_version(bool overlap)
    {
        Gpu.Require();
        using var source = Gpu.TinyWeights();
        using var trainer = new TcpTransport();
        await using var runtime = new WorkerRuntime(new() { Device = "cuda:0", Threads = 1 }, null);
        var reply = await runtime.SetupAsync(
            new(
                "s",
                WireFormat.ToJson(
                    new WorkerSetup(Gpu.TinyConfig, null, new() { KvCacheBytes = 1 << 20, MaxContext = 64 })
                ),
                null
            )
        );
        Assert.Equal((null, "BFloat16"), (reply.Failure, reply.ElementType));
        for (int version = 1; version < 4; version++)
        {
            source.Flat.mul_(1.01f);
            ulong hash = WeightHash.Of(source, ScalarType.BFloat16);
            Assert.Equal(
                new(false, version == 1 ? -1 : version - 1),
                await runtime.PrepareAsync(Prepare(version, overlap))
            );
            using var offer = trainer.Offer(
                source,
                BroadcastPlan.For(source, version, held: ScalarType.BFloat16),
                ["worker"]
            );
            var receipt = await runtime.ReceiveAsync($"u{version}", 1, [WireFormat.ToJson(offer.Invitations[0])], Long);
            Assert.Equal((null, version, hash), (receipt.Failure, receipt.Version, receipt.Hash));
            var commit = await runtime.CommitAsync($"u{version}", version);
            Assert.Equal((version, hash), (commit.Version, commit.Hash));
            Assert.Equal(new(false, false, null), runtime.Submit(OneRequest(version, hash)));
            var next = await runtime.NextAsync($"b{version}", 0, Long);
            Assert.All(next.Events[0].Completion!.ToCompletion().WeightVersions, v => Assert.Equal(version, v));
        }
    }

    private static PrepareMessage Prepare(int version, bool overlap) =>
        new()
        {
            Session = "s",
            Update = $"u{version}",
            Version = version,
            OnUpdate = OnUpdate.Keep,
            Overlap = overlap,
            TimeoutSeconds = 60,
        };

    private static SubmitMessage OneRequest(int version, ulong hash) =>
        new()
        {
            Session = "s",
            Batch = $"b{version}",
            WeightVersion = version,
            WeightHash = hash,
            Requests = [RequestMessage.From(new("r", [1, 2], new() { MaxTokens = 4, IgnoreEos = true }))],
            Stream = false,
        };

    [Theory]
    [InlineData(WeightTransportChoice.SharedMemory), InlineData(WeightTransportChoice.Tcp)]
    public async Task Worker_processes_on_gpus_prove_what_they_hold_and_generate(WeightTransportChoice transport)
    {
        Gpu.Require();
        using var weights = Gpu.TinyWeights();
        var log = new ConcurrentQueue<string>();
        await using var cluster = await TrainerCluster.StartAsync(
            new()
            {
                Workers = 2,
                Worker = new() { Device = "cuda", Threads = 1 },
                Transport = transport,
                Log = log.Enqueue,
                WorkerCommand = [.. ProgramRun.Program, "worker"],
                SilenceTimeout = Long,
            },
            new(Gpu.TinyConfig, null, new() { KvCacheBytes = 1 << 20, MaxContext = 64 }),
            Cancel
        );
        for (int version = 0; version < 2; version++)
        {
            weights.Flat.mul_(1.25f);
            var report = await cluster.Workers.PushWeightsAsync(weights, version, Cancel);
            Assert.Equal(
                (WeightHash.Of(weights, ScalarType.BFloat16), weights.ByteLength / 2),
                (report.Hash, report.Bytes)
            );
            Assert.Equal([1, 2], report.Workers);
            int count = 0;
            await foreach (
                var completion in cluster.Workers.GenerateAsync(
                    [
                        .. Enumerable
                            .Range(0, 4)
                            .Select(i => new GenerationRequest(
                                $"r{i}",
                                [1, 2, i],
                                new()
                                {
                                    Samples = 2,
                                    MaxTokens = 6,
                                    IgnoreEos = true,
                                }
                            )),
                    ],
                    NeverEnough.Token,
                    Cancel
                )
            )
            {
                count++;
                Assert.All(completion.WeightVersions, v => Assert.Equal(version, v));
            }
            Assert.Equal(8, count);
        }
        Assert.Empty(log);
    }

    [Fact]
    public async Task Worker_that_joins_with_another_element_type_than_anyone_has_holds_the_current_weights_at_once()
    {
        Gpu.Require();
        using var weights = Gpu.TinyWeights();
        await using var cluster = await TrainerCluster.StartAsync(
            new()
            {
                Workers = 1,
                Worker = new() { Threads = 1 },
                Log = _ => { },
                WorkerCommand = [.. ProgramRun.Program, "worker"],
                SilenceTimeout = Long,
            },
            new(Gpu.TinyConfig, null, new() { KvCacheBytes = 1 << 20, MaxContext = 64 }),
            Cancel
        );
        await cluster.Workers.PushWeightsAsync(weights, 3, Cancel);
        await using var joiner = WorkerMachine.Start(
            new()
            {
                Head = new(cluster.Join, null),
                Name = "joiner",
                Worker = new()
                {
                    Device = "cuda",
                    Threads = 1,
                    DrainTimeout = TimeSpan.FromSeconds(1),
                },
                Command = [.. ProgramRun.Program, "worker"],
                Log = _ => { },
            }
        );
        for (
            var patience = Stopwatch.StartNew();
            cluster.Workers.Status().FirstOrDefault(w => w.Name == "joiner") is not { State: WorkerState.Ready };
            await Task.Delay(20, Cancel)
        )
            Assert.True(patience.Elapsed < Long, "waited for the joiner to hold weights");
        var holds = (await cluster.Workers.HeldWeightsAsync(Cancel)).Single(h => h.Name == "joiner");
        Assert.Equal(
            (ScalarType.BFloat16, 3, WeightHash.Of(weights, ScalarType.BFloat16)),
            (holds.Type, holds.Version, holds.Hash)
        );
    }
}
