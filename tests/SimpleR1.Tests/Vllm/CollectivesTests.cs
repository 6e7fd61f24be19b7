using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using SimpleR1.Tests.WeightSync;
using SimpleR1.Vllm.Collectives;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.Vllm;

/// <summary>Groups over TCP, with a cluster key and without.</summary>
public sealed class CollectivesTests
{
    private const int AddressAt = 48; // in an id, after kind and token
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Short = TimeSpan.FromSeconds(1);
    private static readonly byte[] Weights = [.. Enumerable.Range(0, 3 << 20).Select(i => (byte)(i * 31 + i / 251))];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static ClusterKey NewKey() => ClusterKey.Parse(ClusterKey.NewText());

    private static IPEndPoint AddressIn(byte[] id) =>
        IPEndPoint.Parse(Encoding.ASCII.GetString(id.AsSpan(AddressAt)).TrimEnd('\0'));

    private static unsafe void Broadcast(IWeightGroup group, byte[] memory)
    {
        fixed (byte* at = memory)
            group.Broadcast((nint)at, memory.Length);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task Broadcast_passes_a_listener_in_between_readable_only_without_a_key(bool withKey)
    {
        var key = withKey ? NewKey() : null;
        using var leader = new TcpCollectives(key: key);
        using var follower = new TcpCollectives(key: key);
        byte[] id = leader.NewId();
        await using var tap = new Tap(AddressIn(id));
        byte[] byTap =
        [
            .. id.AsSpan(0, AddressAt),
            .. Encoding.ASCII.GetBytes(tap.Endpoint.ToString().PadRight(128 - AddressAt, '\0')),
        ];
        var leading = Task.Run(() => leader.Join(id, 0, 2, Long), Cancel);
        using var receiving = await Task.Run(() => follower.Join(byTap, 1, 2, Long), Cancel);
        using var sending = await leading;
        byte[] received = new byte[Weights.Length];
        var send = Task.Run(() => Broadcast(sending, Weights), Cancel);
        await Task.Run(() => Broadcast(receiving, received), Cancel);
        await send;
        Assert.Equal(Weights, received);
        Assert.Equal(!withKey, tap.Heard().AsSpan().IndexOf(Weights.AsSpan(5000, 64)) >= 0);
        Assert.Equal(!withKey, tap.Heard().AsSpan().IndexOf(id.AsSpan(AddressAt - 32, 32)) >= 0); // the token
    }

    [Fact]
    public async Task Strangers_who_are_silent_or_have_no_key_delay_nobody()
    {
        var key = NewKey();
        using var collectives = new TcpCollectives(key: key);
        byte[] id = collectives.NewId();
        var leading = Task.Run(() => collectives.Join(id, 0, 2, 2 * Long), Cancel);
        var strangers = new List<TcpClient>();
        for (int i = 0; i < 50; i++)
        {
            strangers.Add(new TcpClient());
            await strangers[i].ConnectAsync(AddressIn(id), Cancel);
            if (i % 2 == 0)
                await strangers[i].GetStream().WriteAsync(id.AsMemory(16, 32), Cancel); // the token, in the clear
        }
        var clock = Stopwatch.StartNew();
        using var member = await Task.Run(() => collectives.Join(id, 1, 2, Long), Cancel);
        using var leader = await leading;
        Assert.True(
            clock.Elapsed < Long,
            $"joined after {clock.Elapsed.TotalSeconds:0.0} s: as if it had waited for the strangers"
        ); // whose handshakes have 10 s each
        foreach (var stranger in strangers)
            stranger.Dispose();
    }

    [Fact]
    public async Task Without_the_key_nobody_joins_and_rank_0_says_how_many_were_refused()
    {
        using var leader = new TcpCollectives(key: NewKey());
        using var other = new TcpCollectives(key: NewKey());
        using var none = new TcpCollectives();
        byte[] id = leader.NewId();
        var leading = Task.Run(() => leader.Join(id, 0, 2, Short), Cancel);
        Assert.Contains("has none", Assert.Throws<InvalidDataException>(() => none.Join(id, 1, 2, Long)).Message);
        Assert.Contains(
            "has a key",
            Assert.Throws<InvalidDataException>(() => leader.Join(none.NewId(), 1, 2, Long)).Message
        );
        Assert.Contains(
            "did not prove",
            (await Assert.ThrowsAsync<IOException>(() => Task.Run(() => other.Join(id, 1, 2, Long), Cancel))).Message
        );
        Assert.Matches(
            "0 did, and 1 connections were refused",
            (await Assert.ThrowsAsync<TimeoutException>(() => leading)).Message
        );
    }

    [Fact]
    public async Task Disposal_ends_the_wait_for_a_group()
    {
        var collectives = new TcpCollectives();
        byte[] id = collectives.NewId();
        var leading = Task.Run(() => collectives.Join(id, 0, 2, Long), Cancel);
        using (var probe = new TcpClient())
            await probe.ConnectAsync(AddressIn(id), Cancel);
        collectives.Dispose();
        await Assert.ThrowsAnyAsync<Exception>(() => leading.WaitAsync(TimeSpan.FromSeconds(20), Cancel));
        Assert.True(leading.IsCompleted);
    }
}
