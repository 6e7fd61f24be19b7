using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.WeightSync.Security;

public sealed class AcceptLoopTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(SocketError.TooManyOpenSockets, 3, 1)] // EMFILE
    [InlineData(SocketError.NoBufferSpaceAvailable, 2, 1)]
    [InlineData(SocketError.ConnectionAborted, 1000, 0)] // strangers can cause any number of them
    public async Task Failures_of_accept_end_no_loop_and_fill_no_log(SocketError error, int failures, int lines)
    {
        var log = new ConcurrentQueue<string>();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var accepted = new TaskCompletionSource<Socket>();
        var loop = new AcceptLoop("a port", log.Enqueue).RunAsync(
            cancellation =>
                failures-- > 0 ? throw new SocketException((int)error) : listener.AcceptSocketAsync(cancellation),
            accepted.SetResult,
            stop.Token
        );

        using var client = new TcpClient();
        await client.ConnectAsync((IPEndPoint)listener.LocalEndpoint, Cancel);
        using (await accepted.Task.WaitAsync(Patience, Cancel))
            Assert.False(loop.IsCompleted);
        Assert.Equal(lines, log.Count);
        Assert.All(log, line => Assert.Contains("a port can't accept a connection now, and tries again", line));

        await stop.CancelAsync();
        await loop.WaitAsync(Patience, Cancel);
    }

    [Fact]
    public async Task Disposed_listener_ends_the_loop()
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var loop = new AcceptLoop("a port", _ => { }).RunAsync(listener.AcceptSocketAsync, _ => { }, Cancel);
        listener.Dispose();
        await loop.WaitAsync(Patience, Cancel);
    }

    /// <summary>Every port accepts by the one loop: another one would have its faults again.</summary>
    [Fact]
    public void No_other_code_accepts_connections()
    {
        string src = Path.Combine(SharedData.RepositoryRoot, "src");
        foreach (string file in Directory.EnumerateFiles(src, "*.cs", SearchOption.AllDirectories))
            if (
                !file.Contains("/obj/", StringComparison.Ordinal) && !file.Contains("/Bench/", StringComparison.Ordinal)
            )
                Assert.DoesNotMatch(@"(?m)^(?!\s*//).*\.Accept(Socket|TcpClient)(Async)?\(", File.ReadAllText(file));
    }
}
