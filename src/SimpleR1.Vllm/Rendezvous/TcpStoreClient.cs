using System.Diagnostics;
using System.Net.Sockets;
using System.Text;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>
/// A process's connection to a <see cref="TcpStoreServer"/> or to PyTorch's own. Synchronous, for one thread.
/// </summary>
public sealed class TcpStoreClient : IDisposable
{
    private static readonly TimeSpan RetryPause = TimeSpan.FromMilliseconds(50);

    private readonly TcpClient client;
    private readonly NetworkStream stream;
    private readonly string address;
    private readonly TimeSpan timeout;

    /// <summary>Connects, retrying until the server listens, and adds itself to the count of processes.</summary>
    /// <param name="timeout">Time for the server to listen, and for each answer.</param>
    /// <exception cref="TimeoutException">Nothing listens at the address, or the server does not answer.</exception>
    /// <exception cref="IOException">The server is no TCPStore.</exception>
    public TcpStoreClient(string host, int port, TimeSpan timeout)
    {
        address = $"{host}:{port}";
        this.timeout = timeout;
        int milliseconds = (int)Math.Min(int.MaxValue, timeout.TotalMilliseconds);
        client = Connect(host, port);
        client.NoDelay = true;
        client.ReceiveTimeout = milliseconds;
        client.SendTimeout = milliseconds;
        stream = client.GetStream();

        // A ping shows whether the server speaks the protocol.
        Request(TcpStoreQuery.Validate, BitConverter.GetBytes(TcpStoreWire.Magic));
        byte[] nonce = BitConverter.GetBytes(Environment.ProcessId);
        Request(TcpStoreQuery.Ping, nonce);
        if (!Read(nonce.Length, "its ping").AsSpan().SequenceEqual(nonce))
            throw new IOException(
                $"{address} is no TCPStore that this program knows: it answered a ping with something else"
            );

        AddRaw(TcpStoreWire.JoinedKey, 1);
    }

    /// <summary>The number of processes that have connected, this one included.</summary>
    public long Joined => AddRaw(TcpStoreWire.JoinedKey, 0);

    public void Set(string key, ReadOnlySpan<byte> value) =>
        Request(TcpStoreQuery.Set, [.. Text(Prefixed(key)), .. BitConverter.GetBytes((ulong)value.Length), .. value]);

    /// <summary>Waits until the key is set, and reads its value.</summary>
    /// <exception cref="TimeoutException">The key was not set in time.</exception>
    /// <exception cref="IOException">
    /// The wait was cancelled, the value is too long, or the connection was lost.
    /// </exception>
    public byte[] Get(string key)
    {
        Request(TcpStoreQuery.Wait, [.. BitConverter.GetBytes(1UL), .. Text(Prefixed(key))]);
        if (Read(1, $"the key '{key}'")[0] != 0)
            throw new IOException($"{address}: waiting for the key '{key}' was cancelled");
        Request(TcpStoreQuery.Get, Text(Prefixed(key)));
        ulong length = BitConverter.ToUInt64(Read(8, $"the value of '{key}'"));
        if (length > TcpStoreWire.MaxValueBytes)
            throw new IOException(
                $"{address}: the value of '{key}' has {length} bytes, "
                    + $"at most {TcpStoreWire.MaxValueBytes} were expected"
            );
        return Read((int)length, $"the value of '{key}'");
    }

    /// <returns>The key's new value.</returns>
    public long Add(string key, long amount) => AddRaw(Prefixed(key), amount);

    private long AddRaw(string key, long amount)
    {
        Request(TcpStoreQuery.Add, [.. Text(key), .. BitConverter.GetBytes(amount)]);
        return BitConverter.ToInt64(Read(8, $"the sum of '{key}'"));
    }

    private static string Prefixed(string key) => TcpStoreWire.KeyPrefix + key;

    private static byte[] Text(string text) =>
        [.. BitConverter.GetBytes((ulong)Encoding.UTF8.GetByteCount(text)), .. Encoding.UTF8.GetBytes(text)];

    private void Request(TcpStoreQuery query, ReadOnlySpan<byte> arguments) =>
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
            throw new IOException($"the store at {address} closed the connection before it sent {awaited}", e);
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
        // The server may start later than this process.
        var clock = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                return new TcpClient(host, port);
            }
            catch (SocketException e) when (clock.Elapsed >= timeout)
            {
                throw new TimeoutException(
                    $"waited {timeout.TotalSeconds:0.#} s for a store to listen at {address}: {e.Message}",
                    e
                );
            }
            catch (SocketException)
            {
                Thread.Sleep(RetryPause);
            }
        }
    }

    public void Dispose() => client.Dispose();
}
