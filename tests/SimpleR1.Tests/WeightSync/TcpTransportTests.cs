using System.Net;
using System.Net.Sockets;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using Xunit;
using static SimpleR1.Tests.WeightSync.TransportTests;
using static TorchSharp.torch;

namespace SimpleR1.Tests.WeightSync;

/// <summary>Weights by TCP: damage, stalls, deaths, deltas and conversions.</summary>
public sealed class TcpTransportTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(300);
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

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
        long length = source.ByteLength + 16L * chunks;
        long again = Chunk + 16; // every time the first chunk passes
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

    /// <summary>
    /// The proxy serves the first connection and never accepts the second. Both end when the receiver is cancelled, or
    /// when the time is over.
    /// </summary>
    [Theory]
    [InlineData(true), InlineData(false)]
    public async Task Tcp_transfer_by_several_connections_ends_as_a_whole(bool cancelled)
    {
        using var trainer = new TcpTransport();
        using var worker = new TcpTransport(connections: 2);
        using var source = Filled(14);
        using var destination = Empty();
        using var offer = trainer.Offer(source, BroadcastPlan.For(source, 9, Chunk), ["worker"]);
        using var proxy = new Proxy(offer.Invitations[0]); // takes one connection; the other stays in the queue
        using var stop = new CancellationTokenSource();
        if (cancelled)
            stop.CancelAfter(100);
        var receiving = Task.Run(
            () => worker.Receive(proxy.Invitation, destination, cancelled ? Long : Short, stop.Token),
            Cancel
        );
        if (cancelled)
            await Assert.ThrowsAsync<OperationCanceledException>(() => receiving.WaitAsync(Long, Cancel));
        else
            Assert.Contains(
                "of weights version 9",
                (await Assert.ThrowsAsync<TimeoutException>(() => receiving.WaitAsync(Long, Cancel))).Message
            );

        // The next transfer works.
        Assert.Equal(WeightHash.Of(source), worker.Receive(offer.Invitations[0], destination, Long, Cancel).Hash);
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
        long Push(int version, TcpTransport to, FlatWeights into)
        {
            long before = trainer.SentBytes;
            using var offer = trainer.Offer(source, BroadcastPlan.For(source, version, Chunk), ["worker"]);
            Assert.Equal(WeightHash.Of(source), to.Receive(offer.Invitations[0], into, Long, Cancel).Hash);
            Assert.True(source.Flat.Equals(into.Flat));
            return trainer.SentBytes - before;
        }
        Assert.Equal(source.ByteLength, Push(0, worker, destination));
        SetElements(source, 50);
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

    private static void SetElements(FlatWeights weights, int count)
    {
        var random = new Random(1);
        for (int i = 0; i < count; i++)
            SetElement(weights, random.Next((int)weights.Layout.Length), i);
    }

    private static unsafe void SetElement(FlatWeights weights, int index, float value) =>
        ((float*)weights.Pointer)[index] = value;
}
