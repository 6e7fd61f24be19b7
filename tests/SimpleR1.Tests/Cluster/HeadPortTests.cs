using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Wire;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>The head's one port: members that come one after another, and strangers.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class HeadPortTests : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private readonly ConcurrentQueue<string> log = [];
    private readonly List<IAsyncDisposable> started = [];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask DisposeAsync()
    {
        foreach (var one in started.AsEnumerable().Reverse())
            await one.DisposeAsync();
    }

    private async Task<ClusterHead> HeadAsync(ClusterKey? key = null)
    {
        var head = await ClusterHead.StartAsync(
            new()
            {
                Key = key,
                Address = IPAddress.Loopback,
                Log = log.Enqueue,
            },
            Cancel
        );
        started.Add(head);
        return head;
    }

    private async Task<double> WaitAsync(Func<bool> condition, string awaited)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(
                clock.Elapsed < Patience,
                $"waited {Patience.TotalSeconds} s for {awaited}; log:\n{string.Join('\n', log)}"
            );
            await Task.Delay(10, Cancel);
        }
        return clock.Elapsed.TotalSeconds;
    }

    private static async Task<ClusterStatus> StatusAsync(string join, ClusterKey? key) =>
        await ClusterClient.StatusAsync(new(join, key), Cancel);

    private static async Task RefusedAsync<T>(string says, Task attempt)
        where T : Exception => Assert.Contains(says, (await Assert.ThrowsAnyAsync<T>(() => attempt)).Message);

    [Fact]
    public async Task Strangers_are_refused_by_what_they_lack()
    {
        var key = ClusterKey.Parse(ClusterKey.NewText());
        var head = await HeadAsync(key);
        await RefusedAsync<IOException>("it has a cluster key", StatusAsync(head.Join, null));
        await RefusedAsync<IOException>(
            "this cluster's key",
            StatusAsync(head.Join, ClusterKey.Parse(ClusterKey.NewText()))
        );
        await WaitAsync(() => log.Any(l => l.Contains("refused: it has not this cluster's key")), "the head to log it");
        Assert.Empty((await StatusAsync(head.Join, key)).Workers);
        var open = await HeadAsync();
        await RefusedAsync<IOException>("its key differs, or it has none", StatusAsync(open.Join, key));
        await RefusedAsync<ArgumentException>(
            "give it a key",
            ClusterHead.StartAsync(new() { Address = IPAddress.Parse("192.0.2.1") }, Cancel)
        );
        await RefusedAsync<ArgumentException>("HOST:PORT", StatusAsync("nowhere", null));

        // The silo itself, around the head's port: one without the key gets in nowhere.
        var stranger = new MemberName(MemberRole.Worker, "stranger", "x");
        using var soon = new CancellationTokenSource(TimeSpan.FromSeconds(5));
        await Assert.ThrowsAnyAsync<Exception>(() =>
            ClusterSilo.StartAsync(
                new()
                {
                    ClusterId = head.Silo.ClusterId,
                    Name = stranger.ToString(),
                    Address = IPAddress.Loopback,
                    Primary = head.Silo.Endpoint,
                },
                soon.Token
            )
        );
        Assert.Null(head.Silo.Find(stranger));
    }

    [Fact]
    public async Task Members_join_one_after_another_and_wait_for_their_turn_longer_than_one_may_be_silent()
    {
        var head = new HeadAddress((await HeadAsync()).Join, null);
        static HelloMessage Hello(string name) =>
            HelloMessage.Create(MemberRole.Worker, name, instance: name, device: "cpu");
        await using var first = await HeadConnection.ConnectAsync(head, Hello("a"), Patience, Cancel);
        await using var second = await HeadConnection.ConnectAsync(head, Hello("b"), Patience, Cancel);
        await first.AskAsync(new(HeadAsk.Turn), Patience, Cancel);
        var turn = second.AskAsync(new(HeadAsk.Turn), Patience, Cancel);
        await Task.Delay(TimeSpan.FromSeconds(11), Cancel);
        Assert.False(turn.IsCompleted);
        await first.AskAsync(new(HeadAsk.Joined), Patience, Cancel);
        await turn;
        await second.DisposeAsync(); // with the turn: the next one must get it all the same
        await first.AskAsync(new(HeadAsk.Turn), Patience, Cancel);
    }

    /// <summary>Garbage, half frames, huge lengths and wrong JSON close their connection and disturb no member.</summary>
    [Fact]
    public async Task Head_survives_what_is_no_member()
    {
        var head = await HeadAsync();
        byte[][] bad =
        [
            [],
            [1],
            [0, 0, 0, 0],
            [127, 255, 255, 255, 1],
            [0, 0, 0, 5, .. "{\"a\":"u8],
            [0, 0, 0, 4, .. "null"u8],
            [0, 0, 0, 2, .. "[]"u8],
            Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            [.. Enumerable.Range(0, 5000).Select(i => (byte)(i * 31))],
            Frame("""{"Protocol":99,"Role":0,"Name":"x","Instance":"y","Host":"z","ProcessId":1,"Device":"cpu"}"""),
            Frame(
                $$"""
                {"$type":"System.Diagnostics.Process","Protocol":{{HelloMessage.CurrentProtocol}},"Role":7,"Name":null,
                "Instance":null,"Host":null,"ProcessId":1,"Device":null}
                """
            ),
        ];
        foreach (byte[] bytes in bad)
        {
            using var client = new TcpClient();
            await client.ConnectAsync(IPAddress.Loopback, head.Port, Cancel);
            var stream = client.GetStream();
            await stream.WriteAsync(bytes, Cancel);
            client.Client.Shutdown(SocketShutdown.Send);
            var answer = new MemoryStream();
            try
            {
                await stream.CopyToAsync(answer, Cancel).WaitAsync(Patience, Cancel);
            }
            catch (IOException) { } // reset: it had sent what was never read
            Assert.True(answer.Length < 1000);
        }
        Assert.Empty((await ClusterClient.StatusAsync(new(head.Join, null), Cancel)).Workers);

        static byte[] Frame(string json) => [0, 0, 0, (byte)json.Length, .. Encoding.UTF8.GetBytes(json)];
    }
}
