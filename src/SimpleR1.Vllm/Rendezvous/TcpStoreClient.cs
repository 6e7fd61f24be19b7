using System.Net.Sockets;
using System.Text;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>A process's connection to a <see cref="TcpStoreServer"/> or to PyTorch's own. Synchronous, for one thread.</summary>
public sealed class TcpStoreClient : IDisposable
{
    private const int MaxValue = 1 << 20;

    private readonly TcpClient client;
    private readonly NetworkStream stream;
    private readonly string address;
    private readonly TimeSpan timeout;

    /// <summary>Connects, tries again until the server is there, and counts itself in.</summary>
    /// <param name="timeout">For the server to be there, and for each answer.</param>
    /// <exception cref="TimeoutException">Nobody listens there, or it doesn't answer; says which.</exception>
    /// <exception cref="IOException">It is no TCPStore.</exception>
    public TcpStoreClient(string host, int port, TimeSpan timeout)
    {
        (address, this.timeout) = ($"{host}:{port}", timeout);
        client = Connect(host, port);
        client.NoDelay = true;
        client.ReceiveTimeout = client.SendTimeout = (int)Math.Min(int.MaxValue, timeout.TotalMilliseconds);
        stream = client.GetStream();
        Request(TcpStoreServer.Query.Validate, BitConverter.GetBytes(TcpStoreServer.Magic));
        byte[] nonce = BitConverter.GetBytes(Environment.ProcessId);
        Request(TcpStoreServer.Query.Ping, nonce);
        if (!Read(nonce.Length, "its ping").AsSpan().SequenceEqual(nonce))
            throw new IOException(
                $"{address} is no TCPStore that this program knows: it answered a ping with something else"
            );
        AddRaw(TcpStoreServer.JoinedKey, 1);
    }

    /// <summary>How many processes have connected, this one among them.</summary>
    public long Joined => AddRaw(TcpStoreServer.JoinedKey, 0);

    public void Set(string key, ReadOnlySpan<byte> value) =>
        Request(
            TcpStoreServer.Query.Set,
            [.. Text(Prefixed(key)), .. BitConverter.GetBytes((ulong)value.Length), .. value]
        );

    /// <summary>Waits until the key is there.</summary>
    /// <exception cref="TimeoutException">It did not come.</exception>
    public byte[] Get(string key)
    {
        Request(TcpStoreServer.Query.Wait, [.. BitConverter.GetBytes(1UL), .. Text(Prefixed(key))]);
        if (Read(1, $"the key '{key}'")[0] != 0)
            throw new IOException($"{address}: waiting for the key '{key}' was cancelled");
        Request(TcpStoreServer.Query.Get, Text(Prefixed(key)));
        ulong length = BitConverter.ToUInt64(Read(8, $"the value of '{key}'"));
        if (length > MaxValue)
            throw new IOException(
                $"{address}: the value of '{key}' has {length} bytes, at most {MaxValue} were expected"
            );
        return Read((int)length, $"the value of '{key}'");
    }

    /// <returns>The key's new value.</returns>
    public long Add(string key, long amount) => AddRaw(Prefixed(key), amount);

    private long AddRaw(string key, long amount)
    {
        Request(TcpStoreServer.Query.Add, [.. Text(key), .. BitConverter.GetBytes(amount)]);
        return BitConverter.ToInt64(Read(8, $"the sum of '{key}'"));
    }

    private static string Prefixed(string key) => TcpStoreServer.KeyPrefix + key;

    private static byte[] Text(string text) =>
        [.. BitConverter.GetBytes((ulong)Encoding.UTF8.GetByteCount(text)), .. Encoding.UTF8.GetBytes(text)];

    private void Request(TcpStoreServer.Query query, ReadOnlySpan<byte> arguments) =>
        stream.Write([(byte)query, .. arguments]);

    private byte[] Read(int count, string awaited)
    {
        byte[] bytes = new byte[count];
        try
        {
            stream.ReadExactly(bytes);
        }
        catch (EndOfStreamException e)
        {
            throw new IOException($"the store at {address} hung up before it sent {awaited}", e);
        }
        catch (IOException e)
            when (e.InnerException
                    is SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock }
            )
        {
            throw new TimeoutException(
                $"waited {timeout.TotalSeconds:0.#} s for {awaited} from the store at {address}",
                e
            );
        }
        return bytes;
    }

    private TcpClient Connect(string host, int port)
    {
        for (long until = Environment.TickCount64 + (long)timeout.TotalMilliseconds; ; Thread.Sleep(50)) // who listens may start later
        {
            try
            {
                return new TcpClient(host, port);
            }
            catch (SocketException e) when (Environment.TickCount64 >= until)
            {
                throw new TimeoutException(
                    $"waited {timeout.TotalSeconds:0.#} s for a store to listen at {address}: {e.Message}",
                    e
                );
            }
            catch (SocketException) { }
        }
    }

    public void Dispose() => client.Dispose();
}
