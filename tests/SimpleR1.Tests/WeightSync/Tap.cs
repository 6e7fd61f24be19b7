using System.Net;
using System.Net.Sockets;
using Xunit;

namespace SimpleR1.Tests.WeightSync;

/// <summary>Forwards a connection, and keeps the bytes of both directions.</summary>
internal sealed class Tap : IAsyncDisposable
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly MemoryStream heard = new();
    private readonly Task passing;

    public Tap(IPEndPoint target)
    {
        listener.Start();
        passing = Task.Run(
            async () =>
            {
                using var inside = await listener.AcceptSocketAsync(Cancel);
                using var outside = new Socket(SocketType.Stream, ProtocolType.Tcp);
                await outside.ConnectAsync(target, Cancel);
                await Task.WhenAll(PassAsync(inside, outside), PassAsync(outside, inside));
            },
            Cancel
        );
    }

    public IPEndPoint Endpoint => (IPEndPoint)listener.LocalEndpoint;

    public byte[] Heard()
    {
        lock (heard)
            return heard.ToArray();
    }

    private async Task PassAsync(Socket from, Socket to)
    {
        byte[] buffer = new byte[1 << 16];
        try
        {
            for (int read; (read = await from.ReceiveAsync(buffer, Cancel)) > 0; )
            {
                lock (heard)
                    heard.Write(buffer, 0, read);
                for (int sent = 0; sent < read; )
                    sent += await to.SendAsync(buffer.AsMemory(sent, read - sent), Cancel);
            }
            to.Shutdown(SocketShutdown.Send);
        }
        catch (SocketException) { } // one end has closed; the other notices
    }

    public async ValueTask DisposeAsync()
    {
        listener.Dispose();
        await passing;
        heard.Dispose();
    }
}
