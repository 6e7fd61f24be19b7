using System.Net;
using System.Net.Sockets;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.WeightSync;

public sealed class TransportTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(20),
        Short = TimeSpan.FromMilliseconds(300);
    private const int Chunk = 4096;
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static FlatWeights Filled(int seed, ModelConfig? config = null)
    {
        var weights = SharedWeightMemory.Allocate(new WeightLayout(config ?? TinyModels.Config()));
        using var generator = new Generator((ulong)seed, CPU);
        weights.Flat.uniform_(-1, 1, generator);
        return weights;
    }

    private static FlatWeights Empty(ModelConfig? config = null) =>
        new(new WeightLayout(config ?? TinyModels.Config()), ScalarType.Float32, CPU);

    private static IWeightTransport Make(string name) =>
        name switch
        {
            "tcp" => new TcpTransport(timeout: Long),
            "tcp by 3 connections" => new TcpTransport(timeout: Long, connections: 3),
            _ => new SharedMemoryTransport(),
        };

    [Theory]
    [InlineData("tcp")]
    [InlineData("tcp by 3 connections")]
    [InlineData("shared-memory")]
    public void Transfers_of_several_versions_arrive_bit_for_bit_with_the_senders_hash(string name)
    {
        using var trainer = Make(name);
        using var worker = Make(name);
        using var source = Filled(1);
        using var destination = Empty();
        for (int version = 0; version < 3; version++)
        {
            source.Flat.mul_(-1.5f);
            using var offer = trainer.Offer(source, BroadcastPlan.For(source, version, Chunk), ["worker"]);
            Assert.True(worker.CanReceive(offer.Invitations[0]));
            ulong hash = worker.Receive(offer.Invitations[0], destination, Long, Cancel).Hash;
            Assert.Equal(WeightHash.Compute(source.Pointer, source.ByteLength), hash);
            Assert.Equal(hash, WeightHash.Compute(destination.Pointer, destination.ByteLength));
            Assert.True(source.Flat.Equals(destination.Flat));
        }
    }

    [Theory]
    [InlineData("tcp")]
    [InlineData("shared-memory")]
    public void Receive_into_a_buffer_of_another_model_says_what_differs_and_writes_nothing(string name)
    {
        using var trainer = Make(name);
        using var worker = Make(name);
        using var source = Filled(2);
        using var destination = Empty(TinyModels.Config(vocabulary: 67));
        using var offer = trainer.Offer(source, BroadcastPlan.For(source, 5, Chunk), ["worker"]);
        var error = Assert.Throws<InvalidOperationException>(() =>
            worker.Receive(offer.Invitations[0], destination, Long, Cancel)
        );
        Assert.Contains("version 5", error.Message);
        Assert.Contains("layout", error.Message);
        Assert.Contains($"{source.ByteLength:N0}", error.Message);
        Assert.Contains($"{destination.ByteLength:N0}", error.Message);
        Assert.All(destination.Flat.data<float>(), value => Assert.Equal(0f, value));
    }

    [Fact]
    public void Plan_chunks_cover_the_buffer_exactly_once()
    {
        using var weights = Empty();
        var plan = BroadcastPlan.For(weights, 1, Chunk);
        long end = 0;
        for (int i = 0; i < plan.Chunks; i++)
        {
            var (offset, length) = plan.Chunk(i);
            Assert.Equal(end, offset);
            end += length;
        }
        Assert.Equal(weights.ByteLength, end);
        Assert.Throws<ArgumentOutOfRangeException>(() => plan.Chunk(plan.Chunks));
    }

    [Fact]
    public void Shared_memory_of_private_weights_is_refused_with_the_way_out()
    {
        using var transport = new SharedMemoryTransport();
        using var weights = Empty();
        Assert.False(transport.CanOffer(weights));
        Assert.Contains(
            "TCP",
            Assert
                .Throws<InvalidOperationException>(() =>
                    transport.Offer(weights, BroadcastPlan.For(weights, 1), ["worker"])
                )
                .Message
        );
    }

    [Fact]
    public void Shared_memory_is_not_followed_to_a_descriptor_that_holds_something_else()
    {
        using var transport = new SharedMemoryTransport();
        using var source = Filled(3);
        using var offer = transport.Offer(source, BroadcastPlan.For(source, 1), ["worker"]);
        string address = offer.Invitations[0].Address;
        var stranger = offer.Invitations[0] with
        {
            Address = address[..(address.LastIndexOf('/') + 1)] + "simple-r1-weights-of-another-trainer",
        };
        Assert.False(transport.CanReceive(stranger));
        using var destination = Empty();
        Assert.Throws<IOException>(() => transport.Receive(stranger, destination, Long, Cancel));
    }

    [Fact]
    public void Shared_memory_leaves_nothing_behind_when_disposed()
    {
        string name;
        using (var source = Filled(4))
        using (var transport = new SharedMemoryTransport())
        {
            using var offer = transport.Offer(source, BroadcastPlan.For(source, 1), ["worker"]);
            using var destination = Empty();
            transport.Receive(offer.Invitations[0], destination, Long, Cancel);
            name = offer.Invitations[0].Address.Split('/')[2];
            Assert.Contains(name, File.ReadAllText("/proc/self/maps"));
        }
        Assert.DoesNotContain(name, File.ReadAllText("/proc/self/maps"));
        Assert.DoesNotContain(
            Directory.GetFiles("/proc/self/fd"),
            f => new FileInfo(f).LinkTarget?.Contains(name) == true
        );
    }

    [Fact]
    public void Tcp_chunk_damaged_on_the_way_is_fetched_again()
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport();
        using var source = Filled(5);
        using var destination = Empty();
        using var offer = trainer.Offer(source, BroadcastPlan.For(source, 1, Chunk), ["worker"]);
        // byte 16 + 100 of the stream lies in the data of the first chunk, the second one in that of a later chunk
        using var proxy = new Proxy(offer.Invitations[0], damage: [116, 3 * (Chunk + 16) + 500]);
        Assert.Equal(
            WeightHash.Compute(source.Pointer, source.ByteLength),
            worker.Receive(proxy.Invitation, destination, Long, Cancel).Hash
        );
        Assert.True(source.Flat.Equals(destination.Flat));
        Assert.Equal(2, proxy.Damaged);
    }

    [Fact]
    public void Tcp_chunk_that_stays_damaged_is_an_error_that_names_it()
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport();
        using var source = Filled(6);
        using var destination = Empty();
        using var offer = trainer.Offer(source, BroadcastPlan.For(source, 1, Chunk), ["worker"]);
        int chunks = offer.Invitations[0].Plan.Chunks;
        long length = source.ByteLength + 16L * chunks,
            again = Chunk + 16; // every time the first chunk passes
        using var proxy = new Proxy(offer.Invitations[0], damage: [100, length + 100, length + again + 100]);
        var error = Assert.Throws<IOException>(() => worker.Receive(proxy.Invitation, destination, Long, Cancel));
        Assert.Contains($"chunk 1 of {chunks}", error.Message);
    }

    [Fact]
    public void Tcp_sender_that_stalls_is_a_timeout_that_names_the_chunk()
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport();
        using var source = Filled(7);
        using var destination = Empty();
        using var offer = trainer.Offer(source, BroadcastPlan.For(source, 9, Chunk), ["worker"]);
        using var proxy = new Proxy(offer.Invitations[0], stallAt: 2 * (Chunk + 16) + 50);
        var error = Assert.Throws<TimeoutException>(() => worker.Receive(proxy.Invitation, destination, Short, Cancel));
        Assert.Contains($"chunk 3 of {offer.Invitations[0].Plan.Chunks} of weights version 9", error.Message);
    }

    [Fact]
    public void Tcp_sender_that_dies_in_the_middle_is_an_error_that_names_the_chunk()
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport();
        using var source = Filled(8);
        using var destination = Empty();
        using var offer = trainer.Offer(source, BroadcastPlan.For(source, 9, Chunk), ["worker"]);
        using var proxy = new Proxy(offer.Invitations[0], closeAt: Chunk + 16 + 50);
        Assert.Contains(
            "chunk 2 of",
            Assert.Throws<IOException>(() => worker.Receive(proxy.Invitation, destination, Long, Cancel)).Message
        );
    }

    [Fact]
    public void Tcp_offer_is_closed_to_a_wrong_token_and_after_its_end()
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport();
        using var source = Filled(9);
        using var destination = Empty();
        var offer = trainer.Offer(source, BroadcastPlan.For(source, 1, Chunk), ["worker"]);
        var forged = offer.Invitations[0] with { Address = offer.Invitations[0].Address[..^64] + new string('0', 64) };
        Assert.Throws<IOException>(() => worker.Receive(forged, destination, Long, Cancel));
        Assert.All(destination.Flat.data<float>(), value => Assert.Equal(0f, value));
        offer.Dispose();
        Assert.Throws<IOException>(() => worker.Receive(offer.Invitations[0], destination, Long, Cancel));
    }

    [Fact]
    public async Task Tcp_end_of_an_offer_stops_a_transfer_that_still_runs()
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport();
        using var source = Filled(10);
        using var destination = Empty();
        var offer = trainer.Offer(source, BroadcastPlan.For(source, 1, Chunk), ["worker"]);
        using var proxy = new Proxy(offer.Invitations[0], stallAt: 500);
        var receiving = Task.Run(
            () => Assert.Throws<IOException>(() => worker.Receive(proxy.Invitation, destination, Long, Cancel)),
            TestContext.Current.CancellationToken
        );
        Assert.True(
            proxy.Stalled.Wait(Long, TestContext.Current.CancellationToken),
            "waited for the transfer to stall"
        );
        offer.Dispose(); // returns only when nothing reads the source any more
        proxy.Dispose();
        await receiving.WaitAsync(Long, TestContext.Current.CancellationToken);
    }

    /// <summary>The first connection gets its share of the chunks, the second one nothing: neither is waited for when the receiver is told to stop, or when the time is over.</summary>
    [Theory]
    [InlineData(true), InlineData(false)]
    public async Task Tcp_transfer_by_several_connections_ends_as_a_whole(bool told)
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport(connections: 2);
        using var source = Filled(14);
        using var destination = Empty();
        using var offer = trainer.Offer(source, BroadcastPlan.For(source, 9, Chunk), ["worker"]);
        using var proxy = new Proxy(offer.Invitations[0]); // takes one connection; the other stays in the queue
        using var stop = new CancellationTokenSource();
        if (told)
            stop.CancelAfter(100);
        var receiving = Task.Run(
            () => worker.Receive(proxy.Invitation, destination, told ? Long : Short, stop.Token),
            Cancel
        );
        if (told)
            await Assert.ThrowsAsync<OperationCanceledException>(() => receiving.WaitAsync(Long, Cancel));
        else
            Assert.Contains(
                "of weights version 9",
                (await Assert.ThrowsAsync<TimeoutException>(() => receiving.WaitAsync(Long, Cancel))).Message
            );
        Assert.Equal(WeightHash.Of(source), worker.Receive(offer.Invitations[0], destination, Long, Cancel).Hash); // and the next one works
    }

    [Fact]
    public void Tcp_port_that_is_taken_is_a_clear_error()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        using var trainer = new TcpTransport((IPEndPoint)taken.LocalEndpoint);
        using var source = Filled(11);
        var error = Assert.Throws<IOException>(() => trainer.Offer(source, BroadcastPlan.For(source, 1), ["worker"]));
        Assert.Contains(taken.LocalEndpoint.ToString()!, error.Message);
        Assert.Contains("another", error.Message);
    }

    [Fact]
    public void Tcp_delta_sends_only_what_changed_to_those_that_hold_the_last_version_and_all_to_others()
    {
        using var trainer = new TcpTransport(delta: true);
        using var worker = new TcpTransport();
        using var joiner = new TcpTransport();
        using var source = Filled(12);
        using var destination = Empty();
        using var late = Empty();
        var random = new Random(1);
        long Push(int version, TcpTransport to, FlatWeights into)
        {
            long before = trainer.SentBytes;
            using var offer = trainer.Offer(source, BroadcastPlan.For(source, version, Chunk), ["worker"]);
            Assert.Equal(WeightHash.Of(source), to.Receive(offer.Invitations[0], into, Long, Cancel).Hash);
            Assert.True(source.Flat.Equals(into.Flat));
            return trainer.SentBytes - before;
        }
        Assert.Equal(source.ByteLength, Push(0, worker, destination));
        for (int i = 0; i < 50; i++)
            SetElement(source, random.Next((int)source.Layout.Length), i);
        Assert.InRange(Push(1, worker, destination), 50 * 5, 50 * 7);
        Assert.Equal(source.ByteLength, Push(1, joiner, late)); // it holds nothing that could be changed
        Assert.Equal(0, Push(2, joiner, late));
        source.Flat.add_(1f);
        Assert.Equal(source.ByteLength, Push(3, joiner, late)); // all has changed
        Assert.Equal(source.ByteLength, Push(4, worker, destination)); // it missed two
        SetElement(destination, 5, 77); // somebody has written to it and not said so: the hash tells
        using var last = trainer.Offer(source, BroadcastPlan.For(source, 5, Chunk), ["worker"]);
        Assert.NotEqual(WeightHash.Of(destination), WeightHash.Of(source));
        worker.Receive(last.Invitations[0], destination, Long, Cancel);
        Assert.NotEqual(WeightHash.Of(destination), WeightHash.Of(source));
    }

    [Fact]
    public void Tcp_offer_to_holders_of_bf16_is_converted_on_the_way_and_hashed_as_they_hold_it()
    {
        using var trainer = new TcpTransport();
        using var memory = new SharedMemoryTransport();
        using var worker = new TcpTransport();
        using var source = Filled(13);
        using var destination = new FlatWeights(source.Layout, ScalarType.BFloat16, CPU);
        var plan = BroadcastPlan.For(source, 1, Chunk, ScalarType.BFloat16);
        Assert.Equal(source.ByteLength / 2, plan.ByteLength);
        using (var offer = trainer.Offer(source, plan, ["worker"]))
            Assert.Equal(
                WeightHash.Of(source, ScalarType.BFloat16),
                worker.Receive(offer.Invitations[0], destination, Long, Cancel).Hash
            );
        Assert.Equal(WeightHash.Of(source, ScalarType.BFloat16), WeightHash.Of(destination));
        using var rounded = source.Flat.to(ScalarType.BFloat16);
        Assert.True(rounded.Equals(destination.Flat));
        destination.Flat.zero_();
        using (var offer = memory.Offer(source, plan, ["worker"]))
            Assert.Equal(
                WeightHash.Of(source, ScalarType.BFloat16),
                memory.Receive(offer.Invitations[0], destination, Long, Cancel).Hash
            );
        Assert.True(rounded.Equals(destination.Flat));
    }

    [Theory]
    [InlineData(1), InlineData(2), InlineData(3), InlineData(7)]
    public void Slices_of_several_trainers_cover_the_buffer_exactly_once_and_start_at_whole_words(int trainers)
    {
        using var weights = Empty();
        long end = 0;
        foreach (var slice in BroadcastPlan.For(weights, 1, Chunk, trainers: trainers).Slices())
        {
            Assert.Equal((end, 0), (slice.First, slice.First % WeightLayout.Alignment));
            end += slice.Length;
        }
        Assert.Equal(weights.Layout.Length, end);
    }

    private static unsafe void SetElement(FlatWeights weights, int index, float value) =>
        ((float*)weights.Pointer)[index] = value;

    /// <summary>A network between the two ends that damages, holds back or cuts what the trainer sends, at given bytes of the stream.</summary>
    private sealed class Proxy : IDisposable
    {
        private readonly TcpListener listener = new(IPAddress.Loopback, 0);
        private readonly Socket trainer;
        private Socket? worker;

        public Proxy(
            WeightInvitation to,
            long[]? damage = null,
            long stallAt = long.MaxValue,
            long closeAt = long.MaxValue
        )
        {
            listener.Start();
            string[] address = to.Address.Split('/');
            Invitation = to with { Address = $"{listener.LocalEndpoint}/{address[1]}" };
            trainer = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            trainer.Connect(IPEndPoint.Parse(address[0]));
            Run(() =>
            {
                worker = listener.AcceptSocket();
                Run(() => Pump(trainer, worker, damage ?? [], stallAt, closeAt));
                Pump(worker, trainer, [], long.MaxValue, long.MaxValue);
            });
        }

        public WeightInvitation Invitation { get; }
        public int Damaged { get; private set; }
        public ManualResetEventSlim Stalled { get; } = new();

        private static void Run(Action action) =>
            new Thread(() =>
            {
                try
                {
                    action();
                }
                catch (Exception e) when (e is SocketException or ObjectDisposedException) { } // an end has closed
            })
            {
                IsBackground = true,
            }.Start();

        private void Pump(Socket from, Socket to, long[] damage, long stallAt, long closeAt)
        {
            var buffer = new byte[8192];
            long passed = 0;
            for (int read; (read = from.Receive(buffer)) > 0; passed += read)
            {
                foreach (long at in damage)
                    if (at >= passed && at < passed + read)
                    {
                        buffer[at - passed] ^= 0x10;
                        Damaged++;
                    }
                if (passed + read >= stallAt)
                {
                    to.Send(buffer.AsSpan(0, (int)(stallAt - passed)));
                    Stalled.Set();
                    return;
                }
                if (passed + read >= closeAt)
                {
                    to.Send(buffer.AsSpan(0, (int)(closeAt - passed)));
                    to.Dispose();
                    return;
                }
                to.Send(buffer.AsSpan(0, read));
            }
            to.Shutdown(SocketShutdown.Send);
        }

        public void Dispose()
        {
            listener.Dispose();
            trainer.Dispose();
            worker?.Dispose();
        }
    }
}
