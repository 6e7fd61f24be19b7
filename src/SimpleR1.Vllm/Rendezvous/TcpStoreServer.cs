using System.Net;
using System.Net.Sockets;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>
/// The key-value store at which PyTorch's processes meet (<c>torch.distributed.TCPStore</c>), so that vLLM's workers
/// can join a group whose rank 0 is not Python. The wire format is that of PyTorch 2.11, recorded in
/// tests/data/tcpstore; keys and values are bytes to it.
/// </summary>
/// <remarks>
/// Little-endian. A request is a byte that names the query, then its arguments: a text or bytes as uint64 length +
/// data, numbers as they are. A connection must begin with VALIDATE and the magic number; one that sends anything else,
/// or too much, is closed.
/// </remarks>
public sealed class TcpStoreServer : IDisposable
{
    private const int MaxConnections = 4096;

    private readonly TcpListener listener;
    private readonly TcpStoreEntries entries = new();
    private readonly Lock gate = new();
    private readonly HashSet<TcpStoreConnection> connections = [];
    private bool closed;

    /// <summary>Starts to listen.</summary>
    /// <param name="bind">The address; port 0 is any free one.</param>
    /// <exception cref="SocketException">The port is taken.</exception>
    public TcpStoreServer(IPEndPoint bind)
    {
        listener = new(bind);
        listener.Start();
        _ = AcceptAsync();
    }

    public int Port => ((IPEndPoint)listener.LocalEndpoint).Port;

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
                Open(await listener.AcceptTcpClientAsync());
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
        {
            // disposed
        }
    }

    private void Open(TcpClient client)
    {
        client.NoDelay = true;
        var connection = new TcpStoreConnection(entries, client);
        lock (gate)
        {
            if (closed || connections.Count == MaxConnections)
                client.Dispose();
            else if (connections.Add(connection))
                _ = Task.Run(() => ServeAsync(connection));
        }
    }

    private async Task ServeAsync(TcpStoreConnection connection)
    {
        await connection.ServeAsync();
        lock (gate)
            connections.Remove(connection);
    }

    public void Dispose()
    {
        TcpStoreConnection[] open;
        lock (gate)
        {
            closed = true;
            open = [.. connections];
        }
        listener.Dispose();
        foreach (var connection in open)
            connection.Close();
    }
}
