using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Wire;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Ipc;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Ipc;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu.Placement;

/// <summary>Who may use shared memory, and weights on a GPU that are sent by way of the host.</summary>
[Collection("GPU"), Trait("Category", "Gpu"), Trait("Category", "GpuProcesses")]
public sealed class MemorySharingTests() : ColocationTest(ScalarType.BFloat16)
{
    private static readonly MapReply Mapped = new(IsOnGpu: true, Refused: null);

    private ColocatedMemory Shared(int workers)
    {
        var memory = new ColocatedMemory(weights, pool);
        memory.Begin(workers, log.Enqueue);
        return memory;
    }

    [Fact]
    public void Memory_is_shared_as_whole_allocations_with_other_processes_only()
    {
        var handle = IpcHandle.Of(pool);
        Assert.Equal((gpu.Uuid, pool.Bytes), (handle.Gpu, handle.Bytes));
        Assert.Throws<CudaException>(() => handle.Open(gpu));
        using var small = gpu.Allocate(1 << 20, "a small one");
        Assert.Contains("2 MiB", Assert.Throws<ArgumentException>(() => IpcHandle.Of(small)).Message);
        using var part = pool.Part(2 << 20, 2 << 20);
        Assert.Throws<ArgumentException>(() => IpcHandle.Of(part));
        Assert.Throws<ArgumentOutOfRangeException>(() => pool.Part(2 << 20, pool.Bytes));
    }

    [Fact]
    public void Parts_do_not_overlap_and_are_free_when_their_processes_have_ended()
    {
        var memory = Shared(workers: 2);
        var a = memory.Admit("a", Mapped, log.Enqueue)!;
        var b = memory.Admit("b", Mapped, log.Enqueue)!;
        Assert.Equal((0L, pool.Bytes / 2), (a.Offset, a.Bytes));
        Assert.Equal((a.Bytes, a.Bytes), (b.Offset, b.Bytes));
        Assert.Throws<IOException>(() => memory.Admit("c", Mapped, log.Enqueue));
        memory.Release("a");
        Assert.Equal(a, memory.Admit("c", Mapped, log.Enqueue));
        Assert.Throws<IOException>(() => memory.Admit("a", Mapped, log.Enqueue)); // its answer came late
        Assert.Null(memory.Admit("d", new(IsOnGpu: false, Refused: null), log.Enqueue));
        Assert.Contains(
            "as other workers do: why",
            Assert.Throws<IOException>(() => memory.Admit("e", Mapped with { Refused = "why" }, log.Enqueue)).Message
        );
        Assert.Null(memory.Refusal);
    }

    [Fact]
    public async Task Pool_is_the_trainers_again_when_every_lease_has_ended()
    {
        var memory = Shared(workers: 2);
        memory.Admit("a", Mapped, log.Enqueue);
        memory.Admit("b", Mapped, log.Enqueue);
        Assert.Throws<InvalidOperationException>(() => memory.BeginLease("a"));
        Assert.Equal(pool, memory.Pool);
        memory.Lend();
        memory.BeginLease("a");
        memory.BeginLease("b");
        memory.BeginLease("b"); // a repeated commit
        var takingBack = memory.TakeBackAsync(Patience, Cancel);
        memory.EndLease("a");
        await Task.Delay(50, Cancel);
        Assert.False(takingBack.IsCompleted);
        Assert.Throws<InvalidOperationException>(() => memory.Pool);
        memory.Release("b"); // it was killed
        await takingBack.WaitAsync(Patience, Cancel);
        Assert.Equal(pool, memory.Pool);
        Assert.Throws<InvalidOperationException>(() => memory.BeginLease("a"));
        memory.Lend();
        Assert.Throws<IOException>(() => memory.BeginLease("b"));
        memory.BeginLease("a");
        await Assert.ThrowsAsync<TimeoutException>(() => memory.TakeBackAsync(TimeSpan.FromMilliseconds(50), Cancel));
        Assert.True(memory.IsLent);
    }

    [Fact]
    public void Transport_in_place_is_for_weights_that_are_mapped_only()
    {
        using var transport = new CudaIpcTransport();
        Assert.True(transport.CanOffer(weights));
        Assert.False(transport.CanOffer(host));
        Assert.Null(transport.ReceiverAddress(weights));
        using var offer = transport.Offer(weights, BroadcastPlan.For(weights, 1), ["a"]);
        using var own = new FlatWeights(weights.Layout, Type, gpu);
        Assert.Contains(
            "aren't those that this worker maps",
            Assert
                .Throws<InvalidOperationException>(() => transport.Receive(offer.Invitations[0], own, Patience, Cancel))
                .Message
        );
    }

    [Fact]
    public void Copy_on_the_host_has_the_weights_type_and_is_brought_up_to_date()
    {
        using var copies = new HostCopy();
        for (int version = 0; version < 2; version++)
        {
            var copy = copies.Of(weights);
            Assert.Equal((Type, (CudaDevice?)null), (copy.Flat.dtype, copy.Device));
            Assert.Equal(WeightHash.Of(weights), WeightHash.Of(copy));
            Assert.Equal(WeightHash.Of(weights, ScalarType.Float32), WeightHash.Of(copy, ScalarType.Float32));
            ChangeWeights();
        }
        Assert.Throws<ArgumentException>(() => copies.Of(host));
    }

    /// <summary>Workers on the CPU hold f32; those on the GPU have memory of their own.</summary>
    [Theory]
    [
        InlineData(WeightTransportChoice.Auto, "cpu", "shared-memory"),
        InlineData(WeightTransportChoice.Tcp, "cpu", "tcp")
    ]
    [InlineData(WeightTransportChoice.Tcp, "cuda", "tcp")]
    public async Task Weights_on_a_gpu_reach_workers_that_no_gpu_transport_reaches(
        WeightTransportChoice choice,
        string device,
        string transport
    )
    {
        var options = Options(1, null);
        options = options with { Transport = choice, Delta = true, Worker = options.Worker with { Device = device } };
        await using var cluster = await StartAsync(options);
        var held = device == "cpu" ? ScalarType.Float32 : Type;
        for (int version = 0; version < 2; version++)
        {
            var report = await cluster.Workers.PushWeightsAsync(weights, version, Cancel);
            Assert.Equal((transport, WeightHash.Of(weights, held)), (report.Transport, report.Hash));
            Assert.Equal(report.Hash, (await cluster.Workers.HeldWeightsAsync(Cancel)).Single().Hash);
            ChangeWeights();
        }
        Assert.Empty(log);
    }

    [Fact]
    public async Task Trainer_says_what_can_not_be_shared()
    {
        using var small = gpu.Allocate(1 << 20, "a small pool");
        Assert.Throws<ArgumentException>(() => new ColocatedMemory(weights, small));
        Assert.Throws<ArgumentException>(() => new ColocatedMemory(host, pool));
        var options = Options(1, new ColocatedMemory(weights, pool));
        await AssertRefusedAsync(options with { Overlap = true }, "overlap");
        await AssertRefusedAsync(options with { Worker = new() { Device = "cpu" } }, "no worker computes on");
        await AssertRefusedAsync(options with { Join = new("127.0.0.1:1", null) }, "another head");
    }

    private static async Task AssertRefusedAsync(ClusterOptions options, string reason) =>
        Assert.Contains(reason, (await Assert.ThrowsAsync<ArgumentException>(() => StartAsync(options))).Message);
}
