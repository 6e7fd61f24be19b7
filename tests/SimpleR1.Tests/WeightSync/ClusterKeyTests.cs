using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.WeightSync;

public sealed class ClusterKeyTests
{
    // Longer than the header of a TLS record, for which TLS waits.
    private static readonly byte[] Ping = "ping ping ping!!"u8.ToArray();
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(30);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public void Keys_differ_and_a_mistyped_one_is_refused_without_being_shown()
    {
        string text = ClusterKey.NewText();
        Assert.NotEqual(text, ClusterKey.NewText());
        Assert.Equal(text, ClusterKey.Parse(text).Text);
        foreach (
            string bad in new[]
            {
                "",
                "sr1-",
                text[..^1],
                text + "A",
                text[..10] + (text[10] == 'A' ? 'B' : 'A') + text[11..],
                text["sr1-".Length..],
                "sr1-%%%",
            }
        )
        {
            var error = Assert.Throws<ArgumentException>(() => ClusterKey.Parse(bad));
            Assert.Contains("simple-r1 key new", error.Message);
            if (bad.Length > 8)
                Assert.DoesNotContain(bad, error.Message);
        }
    }

    /// <summary>Connects two ends, each with its key or none; says what each got.</summary>
    private static async Task<(Exception? Accepting, Exception? Opening)> MeetAsync(
        ClusterKey? accepting,
        ClusterKey? opening
    )
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        async Task<Exception?> ServeAsync()
        {
            try
            {
                using var socket = await listener.AcceptSocketAsync(Cancel);
                await using Stream stream = accepting is null
                    ? new NetworkStream(socket)
                    : await accepting.SecureAcceptedAsync(new NetworkStream(socket), Cancel);
                byte[] ping = new byte[16];
                await stream.ReadExactlyAsync(ping, Cancel);
                await stream.WriteAsync(ping, Cancel);
                return ping.AsSpan().SequenceEqual(Ping) ? null : new InvalidDataException("not the ping");
            }
            catch (Exception e)
            {
                return e;
            }
        }
        async Task<Exception?> CallAsync()
        {
            try
            {
                using var client = new TcpClient();
                await client.ConnectAsync((IPEndPoint)listener.LocalEndpoint, Cancel);
                await using Stream stream = opening is null
                    ? client.GetStream()
                    : await opening.SecureOpenedAsync(client.GetStream(), Cancel);
                await stream.WriteAsync(Ping, Cancel);
                byte[] pong = new byte[16];
                await stream.ReadExactlyAsync(pong, Cancel);
                return null;
            }
            catch (Exception e)
            {
                return e;
            }
        }
        var serving = ServeAsync();
        var called = await CallAsync().WaitAsync(Long, Cancel);
        return (await serving.WaitAsync(Long, Cancel), called);
    }

    [Fact]
    public async Task Only_two_ends_with_the_same_key_understand_each_other()
    {
        string text = ClusterKey.NewText();
        Assert.Equal((null, null), await MeetAsync(ClusterKey.Parse(text), ClusterKey.Parse(text)));
        var (accepting, opening) = await MeetAsync(ClusterKey.Parse(text), ClusterKey.Parse(ClusterKey.NewText()));
        Assert.IsType<AuthenticationException>(opening);
        Assert.NotNull(accepting);
        (accepting, opening) = await MeetAsync(ClusterKey.Parse(text), null);
        Assert.IsType<AuthenticationException>(accepting);
        Assert.NotNull(opening);
        (accepting, opening) = await MeetAsync(null, ClusterKey.Parse(text));
        Assert.NotNull(accepting);
        Assert.NotNull(opening);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Weights_pass_a_listener_on_the_way_readable_only_without_a_key(bool withKey)
    {
        var key = withKey ? ClusterKey.Parse(ClusterKey.NewText()) : null;
        using var sender = new TcpTransport(timeout: Long, key: key);
        using var receiver = new TcpTransport(timeout: Long, key: key);
        using var source = SharedWeightMemory.Allocate(new WeightLayout(TinyModels.Config()));
        using var destination = new FlatWeights(source.Layout, ScalarType.Float32, CPU);
        source.Flat.uniform_(-1, 1);
        using var offer = sender.Offer(source, BroadcastPlan.For(source, 1, 4096), ["worker"]);
        string[] address = offer.Invitations[0].Address.Split('/');
        await using var tap = new Tap(IPEndPoint.Parse(address[0]));
        ulong hash = await Task.Run(
            () =>
                receiver
                    .Receive(
                        offer.Invitations[0] with
                        {
                            Address = $"{tap.Endpoint}/{address[1]}",
                        },
                        destination,
                        Long,
                        TestContext.Current.CancellationToken
                    )
                    .Hash,
            Cancel
        );
        Assert.Equal(WeightHash.Compute(source.Pointer, source.ByteLength), hash);
        byte[] some = ByteAt(source, 4096);
        Assert.Equal(!withKey, tap.Heard().AsSpan().IndexOf(some) >= 0);
        Assert.Equal(!withKey, tap.Heard().AsSpan().IndexOf(Convert.FromHexString(address[1])) >= 0); // the one-time token

        using var stranger = new TcpTransport(
            timeout: Long,
            key: withKey ? null : ClusterKey.Parse(ClusterKey.NewText())
        );
        Assert.ThrowsAny<IOException>(() =>
            stranger.Receive(offer.Invitations[0], destination, Long, TestContext.Current.CancellationToken)
        );
    }

    /// <summary>
    /// A token is random: it may look like the head of a long TLS record, of which the rest never comes.
    /// </summary>
    [Fact]
    public async Task Stranger_in_the_clear_is_hung_up_on_whatever_its_first_bytes_look_like()
    {
        using var sender = new TcpTransport(timeout: Long, key: ClusterKey.Parse(ClusterKey.NewText()));
        using var source = SharedWeightMemory.Allocate(new WeightLayout(TinyModels.Config()));
        using var offer = sender.Offer(source, BroadcastPlan.For(source, 1, 4096), ["worker"]);
        using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPEndPoint.Parse(offer.Invitations[0].Address.Split('/')[0]), Cancel);
        await socket.SendAsync(new byte[] { 0x17, 3, 3, 0x40, 0, 1, 2, 3 }, Cancel); // application data, 16,384 bytes of it
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        soon.CancelAfter(TimeSpan.FromSeconds(10));
        int received;
        try
        {
            received = await socket.ReceiveAsync(new byte[16], soon.Token);
        }
        catch (SocketException)
        {
            received = 0;
        } // reset
        Assert.Equal(0, received);
    }

    private static unsafe byte[] ByteAt(FlatWeights weights, int offset) =>
        new Span<byte>((byte*)weights.Pointer + offset, 64).ToArray();
}
