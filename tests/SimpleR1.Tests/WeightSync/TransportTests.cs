using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.WeightSync;

public sealed class TransportTests
{
    internal static readonly TimeSpan Long = TimeSpan.FromSeconds(20);
    internal const int Chunk = 4096; // bytes
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    internal static FlatWeights Filled(int seed, ModelConfig? config = null)
    {
        var weights = SharedWeightMemory.Allocate(new WeightLayout(config ?? TinyModels.Config()));
        using var generator = new Generator((ulong)seed, CPU);
        weights.Flat.uniform_(-1, 1, generator);
        return weights;
    }

    internal static FlatWeights Empty(ModelConfig? config = null) =>
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
}
