using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using SimpleR1.Benchmarks;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.Tests.Cli;
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
[Collection("GPU"), Trait("Category", "Gpu")]
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
            .Select(_ =>
                (
                    Transport: new NcclTransport(),
                    Weights: new FlatWeights(whole.Layout, ScalarType.BFloat16, gpu.WithOwnStream())
                )
            )
            .ToArray();
        Assert.Equal(inThisProcess, sender.SendersOf(whole));
        string? group = null;
        for (int version = 1; version < 4; version++)
        {
            whole.Flat.mul_(1.5f);
            var plan = BroadcastPlan.For(whole, version, held: ScalarType.BFloat16, trainers: trainers);
            foreach (var source in sources)
                source.Flat.fill_(-1f);
            foreach (var slice in plan.Slices()) // each process has nothing but its own slices right
                sources[Math.Max(0, slice.Owner - inThisProcess + 1)]
                    .Flat.narrow(0, slice.First, slice.Length)
                    .copy_(whole.Flat.narrow(0, slice.First, slice.Length));
            using var offer = sender.Offer(sources[0], plan, ["a", "b"]);
            group ??= offer.Invitations[0].Address.Split('/')[0];
            Assert.Equal(group, offer.Invitations[0].Address.Split('/')[0]);
            var sent = others
                .Select((other, i) => other.SendAsync(offer.Invitations[i], sources[1 + i], Cancel))
                .ToArray();
            var received = workers
                .Select(
                    (w, i) =>
                        Task.Run(
                            () =>
                                w.Transport.Receive(offer.Invitations[others.Length + i], w.Weights, Long, Cancel).Hash,
                            Cancel
                        )
                )
                .ToArray();
            Assert.All(
                await Task.WhenAll(received),
                hash => Assert.Equal(WeightHash.Of(whole, ScalarType.BFloat16), hash)
            );
            await Task.WhenAll([offer.Sending, .. sent]);
        }
        foreach (var other in others)
            other.Dispose();
        foreach (var source in sources)
            source.Dispose();
        foreach (var worker in workers)
        {
            worker.Transport.Dispose();
            worker.Weights.Dispose();
        }
    }

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
        offer.Dispose(); // breaks off the sender's part too
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

    [Theory]
    [
        InlineData(nameof(UpdatePhase.Transfer), 9, false, false),
        InlineData(nameof(UpdatePhase.Transfer), 9, true, true),
        InlineData(nameof(UpdatePhase.Transfer), 19, true, false)
    ] // SIGKILL, SIGSTOP; an NCCL that notices, and one that waits forever
    [
        InlineData(nameof(UpdatePhase.Prepare), 9, true, true),
        InlineData(nameof(UpdatePhase.Verify), 9, false, false),
        InlineData(nameof(UpdatePhase.Commit), 9, false, true),
        InlineData(nameof(UpdatePhase.Commit), 19, false, false)
    ]
    public async Task Worker_process_lost_in_any_phase_is_named_and_the_others_finish_in_a_new_group(
        string when,
        int signal,
        bool silent,
        bool sourceOnGpu
    )
    {
        var gpu = Require();
        using var host = Gpu.TinyWeights();
        using var weights = sourceOnGpu
            ? new FlatWeights(host.Layout, ScalarType.BFloat16, gpu.WithOwnStream())
            : Gpu.TinyWeights();
        void Change()
        {
            host.Flat.mul_(1.25f);
            if (!sourceOnGpu)
            {
                weights.Flat.copy_(host.Flat);
                return;
            }
            using var copy = host.CopyTo(gpu, ScalarType.BFloat16);
            weights.Device!.CopyWithin(copy.Pointer, weights.Pointer, weights.ByteLength);
            weights.Device.Synchronize(); // before the copy is freed
        }
        var log = new ConcurrentQueue<string>();
        TrainerCluster? cluster = null;
        int armed = 0;
        WorkerStatus? victim = null;
        Set("EMULATED_NCCL_DELAY_US", "300000");
        if (silent)
            Set("EMULATED_NCCL_SILENT", "1");
        try
        {
            await using (
                cluster = await TrainerCluster.StartAsync(
                    new()
                    {
                        Workers = 3,
                        Worker = new() { Device = "cuda", Threads = 1 },
                        SendDevice = "cuda",
                        Transport = WeightTransportChoice.Nccl,
                        Log = log.Enqueue,
                        SilenceTimeout = TimeSpan.FromSeconds(4),
                        WorkerCommand = [.. ProgramRun.Program, "worker"],
                        Phase = phase =>
                        {
                            if (phase != Enum.Parse<UpdatePhase>(when) || Interlocked.Exchange(ref armed, 0) == 0)
                                return;
                            victim = cluster!.Workers.Status()[1];
                            if (phase == UpdatePhase.Transfer)
                                _ = Task.Delay(150)
                                    .ContinueWith(_ => Signal(victim.ProcessId, signal), TaskScheduler.Default);
                            else
                                _ = Signal(victim.ProcessId, signal);
                        },
                    },
                    new(Gpu.TinyConfig, null, new() { KvCacheBytes = 1 << 20, MaxContext = 64 }),
                    Cancel
                )
            )
            {
                var pool = cluster.Workers;
                Change();
                var first = await pool.PushWeightsAsync(weights, 0, Cancel);
                Assert.Equal(("nccl", 3), (first.Transport, first.Workers.Count));
                Change();
                armed = 1;
                var clock = Stopwatch.StartNew();
                var report = await pool.PushWeightsAsync(weights, 1, Cancel);
                Assert.True(
                    clock.Elapsed < TimeSpan.FromSeconds(15),
                    $"the update took {clock.Elapsed.TotalSeconds:0.0} s\n{string.Join('\n', log)}"
                );
                string phase = when == nameof(UpdatePhase.Verify) ? "(verify|commit)" : when.ToLowerInvariant();
                Assert.True(
                    report.Workers.SequenceEqual([1, 3])
                        && report.Dropped.Count == 1
                        && report.Dropped[0].Contains(victim!.Name)
                        && Regex.IsMatch(report.Dropped[0], $"in the {phase} phase"),
                    string.Join('\n', [.. log, .. report.Dropped])
                );
                ulong hash = WeightHash.Of(host, ScalarType.BFloat16);
                Assert.Equal((hash, "nccl"), (report.Hash, report.Transport));
                Assert.All(
                    await pool.HeldWeightsAsync(Cancel),
                    holds => Assert.Equal((1, hash), (holds.Version, holds.Hash))
                );
                if ((when, signal) == (nameof(UpdatePhase.Transfer), 9))
                    // What is sent to a stopped process waits in sockets, and the others may have had theirs.
                    Assert.Contains(log, line => line.Contains("form a new group"));
                int count = 0;
                await foreach (
                    var completion in pool.GenerateAsync(
                        [
                            new(
                                "r",
                                [1, 2],
                                new()
                                {
                                    Samples = 4,
                                    MaxTokens = 4,
                                    IgnoreEos = true,
                                }
                            ),
                        ],
                        NeverEnough.Token,
                        Cancel
                    )
                )
                {
                    Assert.All(completion.WeightVersions, v => Assert.Equal(1, v));
                    count++;
                }
                Assert.Equal(4, count);
                for (
                    var patience = Stopwatch.StartNew();
                    !(pool.Status().All(w => w is { State: WorkerState.Ready, WeightVersion: 1 }));
                    await Task.Delay(50, Cancel)
                )
                    Assert.True(
                        patience.Elapsed < Long,
                        "waited for the replacement to hold the weights\n" + string.Join('\n', log)
                    );
            }
        }
        finally
        {
            Set("EMULATED_NCCL_DELAY_US", null);
            Set("EMULATED_NCCL_SILENT", null);
        }
    }

    [Fact]
    public async Task Worker_whose_gpu_is_in_the_group_already_gets_the_weights_another_way_or_is_dropped_with_the_reason()
    {
        Require();
        using var weights = Gpu.TinyWeights();
        Set("EMULATED_ONE_GPU", "1");
        try
        {
            foreach (var transport in (WeightTransportChoice[])[WeightTransportChoice.Auto, WeightTransportChoice.Nccl])
            {
                await using var cluster = await TrainerCluster.StartAsync(
                    new()
                    {
                        Workers = 2,
                        Worker = new() { Device = "cuda", Threads = 1 },
                        SendDevice = "cuda",
                        Transport = transport,
                        Log = _ => { },
                        WorkerCommand = ["env", "NCCL_HOSTID=another", .. ProgramRun.Program, "worker"],
                    },
                    new(Gpu.TinyConfig, null, new() { KvCacheBytes = 1 << 20, MaxContext = 64 }),
                    Cancel
                );
                var report = await cluster.Workers.PushWeightsAsync(weights, 0, Cancel);
                if (transport == WeightTransportChoice.Auto)
                    Assert.Equal(
                        ("nccl, shared-memory", 2),
                        (string.Join(", ", report.Transport.Split(", ").Order()), report.Workers.Count)
                    );
                else
                {
                    Assert.Equal(("nccl", 1), (report.Transport, report.Workers.Count));
                    Assert.Contains("takes each GPU once", Assert.Single(report.Dropped));
                }
            }
        }
        finally
        {
            Set("EMULATED_ONE_GPU", null);
        }
    }

    /// <summary>
    /// On a real GPU by the real NCCL: each process says that it is on a separate host, and what they send goes
    /// through sockets.
    /// </summary>
    [Fact]
    public async Task Updates_by_nccl_survive_what_is_done_to_workers()
    {
        Gpu.Require();
        var said = new StringWriter();
        await SyncAbuse.RunAsync(
            said,
            new(WeightTransportChoice.Nccl, Count: 2, "cuda", "cuda"),
            CudaLibraries.Emulated
                ? new(Kills: 1, 0, 0, Damages: 1, Claims: 1)
                : new(Kills: 8, Stops: 1, Joiners: 2, Damages: 1, Claims: 1)
        );
        TestContext.Current.TestOutputHelper?.WriteLine(said.ToString());
        Assert.Contains("nothing is left over", said.ToString());
    }

    /// <summary>For the stand-in in this process, which is rank 0, and in the processes it starts.</summary>
    internal static void Set(string name, string? value)
    {
        Environment.SetEnvironmentVariable(name, value);
        _ = value is null ? unsetenv(name) : setenv(name, value, 1);
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int unsetenv(string name);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int processId, int signal);
}
