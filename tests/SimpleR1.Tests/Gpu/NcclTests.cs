using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.Vllm.Collectives;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Nccl;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>
/// The control paths of weight sync by NCCL: on the emulator with its stand-in for NCCL (threads and processes of one
/// machine), which says nothing about speed. On a real GPU those that need members in one process are skipped: NCCL
/// takes each GPU of a process once.
/// </summary>
[Collection("GPU"), Trait("Category", "Gpu"), Trait("Category", "GpuProcesses")]
public sealed partial class NcclTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(60),
        Short = TimeSpan.FromSeconds(1);
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    internal static CudaDevice Require()
    {
        var gpu = Gpu.Require();
        Assert.SkipUnless(
            CudaLibraries.Emulated,
            "NCCL takes each GPU once, and this test has several members in this process"
        );
        return gpu;
    }

    /// <summary>The trainer's ranks are GPUs of one process, or a process each.</summary>
    [Theory]
    [InlineData(1, 1), InlineData(3, 1), InlineData(3, 3), InlineData(3, 2)]
    public async Task Each_trainer_rank_sends_the_slice_it_owns_to_all_workers_and_the_group_is_kept(
        int trainers,
        int inThisProcess
    )
    {
        var gpu = Require();
        using var whole = Gpu.TinyWeights();
        using var sender = new NcclTransport([.. Enumerable.Repeat(gpu, inThisProcess)], Long);
        var sources = Enumerable.Range(0, 1 + trainers - inThisProcess).Select(_ => Gpu.TinyWeights()).ToArray();
        var others = sources.Skip(1).Select(_ => new NcclTransport([gpu], Long)).ToArray();
        var workers = Enumerable
            .Range(0, 2)
            .Select(_ => (Transport: new NcclTransport(), Weights: NewDestination(gpu, whole)))
            .ToArray();
        Assert.Equal(inThisProcess, sender.SendersOf(whole));
        string? group = null;
        for (int version = 1; version < 4; version++)
        {
            whole.Flat.mul_(1.5f);
            var plan = BroadcastPlan.For(whole, version, held: ScalarType.BFloat16, trainers: trainers);
            FillOwnSlices(sources, inThisProcess, whole, plan);
            using var offer = sender.Offer(sources[0], plan, ["a", "b"]);
            group ??= offer.Invitations[0].Address.Split('/')[0];
            Assert.Equal(group, offer.Invitations[0].Address.Split('/')[0]);
            var sent = others
                .Select((other, i) => other.SendAsync(offer.Invitations[i], sources[1 + i], Cancel))
                .ToArray();
            var received = workers
                .Select((w, i) => ReceiveAsync(w.Transport, offer.Invitations[others.Length + i], w.Weights))
                .ToArray();
            Assert.All(
                await Task.WhenAll(received),
                hash => Assert.Equal(WeightHash.Of(whole, ScalarType.BFloat16), hash)
            );
            await Task.WhenAll([offer.Sending, .. sent]);
        }
        DisposeAll([.. others, .. sources, .. workers.Select(w => w.Transport), .. workers.Select(w => w.Weights)]);
    }

    private static FlatWeights NewDestination(CudaDevice gpu, FlatWeights source) =>
        new(source.Layout, ScalarType.BFloat16, gpu.WithOwnStream());

    private static void DisposeAll(IDisposable[] all)
    {
        foreach (var one in all)
            one.Dispose();
    }

    /// <summary>Each process has nothing but its own slices right.</summary>
    private static void FillOwnSlices(FlatWeights[] sources, int inThisProcess, FlatWeights whole, BroadcastPlan plan)
    {
        foreach (var source in sources)
            source.Flat.fill_(-1f);
        foreach (var slice in plan.Slices())
            sources[Math.Max(0, slice.Owner - inThisProcess + 1)]
                .Flat.narrow(0, slice.First, slice.Length)
                .copy_(whole.Flat.narrow(0, slice.First, slice.Length));
    }

    private static Task<ulong> ReceiveAsync(NcclTransport worker, WeightInvitation invitation, FlatWeights weights) =>
        Task.Run(() => worker.Receive(invitation, weights, Long, Cancel).Hash, Cancel);

    [Theory]
    [InlineData(ScalarType.BFloat16), InlineData(ScalarType.Float32)]
    public async Task Weights_on_the_trainers_gpu_are_sent_from_where_they_are_or_converted_there(ScalarType type)
    {
        var gpu = Require();
        using var host = Gpu.TinyWeights();
        using var source = host.CopyTo(gpu.WithOwnStream(), type);
        using var sender = new NcclTransport(timeout: Long);
        using var worker = new NcclTransport();
        using var weights = new FlatWeights(source.Layout, ScalarType.BFloat16, gpu.WithOwnStream());
        Assert.True(sender.CanOffer(source));
        Assert.False(sender.CanOffer(host));
        using var offer = sender.Offer(source, BroadcastPlan.For(source, 1, held: ScalarType.BFloat16), ["a"]);
        Assert.Equal(
            WeightHash.Of(host, ScalarType.BFloat16),
            await Task.Run(() => worker.Receive(offer.Invitations[0], weights, Long, Cancel).Hash, Cancel)
        );
        await offer.Sending;
    }

    [Fact]
    public async Task Member_that_does_not_come_is_a_timeout_at_all_others_that_says_what_was_awaited()
    {
        var gpu = Require();
        using var source = Gpu.TinyWeights();
        using var sender = new NcclTransport([gpu], Short);
        using var worker = new NcclTransport();
        using var weights = new FlatWeights(source.Layout, ScalarType.BFloat16, gpu.WithOwnStream());
        using var offer = sender.Offer(source, BroadcastPlan.For(source, 1, held: ScalarType.BFloat16), ["a", "never"]);
        var error = await Assert.ThrowsAnyAsync<Exception>(() =>
            Task.Run(() => worker.Receive(offer.Invitations[0], weights, Short, Cancel), Cancel)
        );
        Assert.True(error is TimeoutException or IOException, error.ToString());
        Assert.Contains("3 processes", error.Message);
        Assert.Contains(
            "3 processes to join",
            (await Assert.ThrowsAsync<TimeoutException>(() => offer.Sending)).Message
        );
    }

    [Fact]
    public async Task Receiver_that_is_told_to_stops_waiting_for_a_sender_that_hangs()
    {
        var gpu = Require();
        using var source = Gpu.TinyWeights();
        using var sender = new NcclTransport([gpu], Long);
        using var worker = new NcclTransport();
        using var weights = new FlatWeights(source.Layout, ScalarType.BFloat16, gpu.WithOwnStream());
        using var stop = new CancellationTokenSource();
        var offer = sender.Offer(source, BroadcastPlan.For(source, 1, held: ScalarType.BFloat16), ["a", "never"]);
        var receiving = Task.Run(() => worker.Receive(offer.Invitations[0], weights, Long, stop.Token), Cancel);
        stop.CancelAfter(100);
        await Assert.ThrowsAsync<OperationCanceledException>(() => receiving);
        offer.Dispose(); // stops the sender's part too
        await Assert.ThrowsAnyAsync<Exception>(() => offer.Sending);

        // A new group.
        using var again = sender.Offer(source, BroadcastPlan.For(source, 1, held: ScalarType.BFloat16), ["a"]);
        Assert.Equal(
            WeightHash.Of(source, ScalarType.BFloat16),
            await Task.Run(() => worker.Receive(again.Invitations[0], weights, Long, Cancel).Hash, Cancel)
        );
    }

    [Fact]
    public async Task Vllms_group_forms_and_broadcasts_device_memory()
    {
        var gpu = Require();
        var (here, there) = (gpu.WithOwnStream(), gpu.WithOwnStream());
        using var store = new TcpStoreServer(new(System.Net.IPAddress.Loopback, 0));
        var leading = Task.Run(() => StatelessGroup.Lead(store, new NcclCollectives(here), 2, Long), Cancel);
        using var follower = await Task.Run(
            () => new NcclCollectives(there).Join(StatelessGroup.ReadId("127.0.0.1", store.Port, Long), 1, 2, Long),
            Cancel
        );
        using var leader = await leading;
        using var from = here.Allocate(4096, "a test");
        using var to = there.Allocate(4096, "a test");
        int[] numbers = [.. Enumerable.Range(0, 1024)];
        here.Write<int>(from.Pointer, numbers);
        var sending = Task.Run(() => leader.Broadcast(from.Pointer, 4096), Cancel);
        await Task.Run(() => follower.Broadcast(to.Pointer, 4096), Cancel);
        await sending;
        Assert.Equal(numbers, there.Read<int>(to.Pointer, 1024));
    }

    /// <summary>
    /// A member written against NCCL itself does what vLLM's do: an all-reduce of one number, and only then a
    /// broadcast. Ours take part, and add nothing to it.
    /// </summary>
    [Fact]
    public async Task Member_that_warms_up_as_vLLMs_do_finds_ours_doing_the_same()
    {
        var gpu = Require();
        var (here, there) = (gpu.WithOwnStream(), gpu.WithOwnStream());
        byte[] id = NcclCommunicator.NewId();
        using var memory = here.Allocate(256, "a test");
        here.Write<float>(memory.Pointer, [3]);
        var foreign = Task.Run(() => WarmUpAndBroadcast(here, id, memory.Pointer), Cancel);
        using var ours = await Task.Run(() => new NcclCollectives(there).Join(id, 1, 2, Long), Cancel);
        using var received = there.AllocateZeros(256, "a test");
        await Task.Run(() => ours.Broadcast(received.Pointer, sizeof(float)), Cancel);
        await foreign;
        Assert.Equal(3, there.Read<float>(received.Pointer, 1)[0]);
    }

    private static unsafe void WarmUpAndBroadcast(CudaDevice gpu, byte[] id, nint memory)
    {
        gpu.Use();
        NcclLibrary.UniqueId bytes;
        id.CopyTo(new Span<byte>(&bytes, NcclLibrary.IdBytes));
        var config = NcclLibrary.Config.NonBlocking;
        nint handle;
        NcclLibrary.Check(NcclLibrary.ncclCommInitRankConfig(&handle, 2, bytes, 0, &config));
        for (int state = NcclLibrary.InProgress; state == NcclLibrary.InProgress; Thread.Yield())
        {
            NcclLibrary.Check(NcclLibrary.ncclCommGetAsyncError(handle, out state));
            Cancel.ThrowIfCancellationRequested();
        }
        try
        {
            NcclLibrary.Check(
                NcclLibrary.ncclAllReduce(memory, memory, 1, NcclLibrary.Float32, NcclLibrary.Sum, handle, gpu.Stream)
            );
            NcclLibrary.Check(NcclLibrary.ncclBroadcast(memory, memory, 1, NcclLibrary.Float32, 0, handle, gpu.Stream));
            using var done = new CudaEvent(gpu);
            done.Record();
            for (var clock = Stopwatch.StartNew(); !done.Reached; Thread.Yield())
                Assert.True(clock.Elapsed < Long, "waited for the other member to warm up and receive");
        }
        finally
        {
            _ = NcclLibrary.ncclCommAbort(handle);
        } // what waits for the stream would wait forever
    }
}
