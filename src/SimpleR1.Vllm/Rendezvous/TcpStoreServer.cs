using System.Net;
using System.Net.Sockets;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>
/// The key-value store that PyTorch's processes meet at (<c>torch.distributed.TCPStore</c>), so that vLLM's workers can join a group whose
/// rank 0 is not Python. Wire format of PyTorch 2.11, recorded in tests/data/tcpstore; keys and values are bytes to it.
/// </summary>
/// <remarks>
/// Little-endian. A request is a byte that says what, then its arguments: a text or bytes as uint64 length + data, numbers as they are. A
/// connection must begin with VALIDATE and the magic number; whoever sends anything else, or too much, is hung up on.
/// </remarks>
public sealed class TcpStoreServer : IDisposable
{
    internal const uint Magic = 0x3C85F7CE;
    internal const string KeyPrefix = "/",
        JoinedKey = "init/"; // the first before all keys of users, the second counts who has connected
    private const int MaxKey = 4096,
        MaxValue = 1 << 20,
        MaxKeys = 1024,
        MaxEntries = 4096,
        MaxConnections = 4096;

    private readonly TcpListener listener;
    private readonly Lock gate = new();
    private readonly Dictionary<string, byte[]> entries = [];
    private readonly HashSet<Connection> connections = [];
    private bool closed;

    /// <summary>Starts to listen.</summary>
    /// <param name="at">Port 0 is any free one.</param>
    /// <exception cref="SocketException">The port is taken.</exception>
    public TcpStoreServer(IPEndPoint at)
    {
        listener = new(at);
        listener.Start();
        _ = AcceptAsync();
    }

    public int Port => ((IPEndPoint)listener.LocalEndpoint).Port;

    internal enum Query : byte
    {
        Validate,
        Set,
        CompareSet,
        Get,
        Add,
        Check,
        Wait,
        GetNumKeys,
        DeleteKey,
        Append,
        MultiGet,
        MultiSet,
        CancelWait,
        Ping,
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var client = await listener.AcceptTcpClientAsync();
                client.NoDelay = true;
                var connection = new Connection(this, client);
                lock (gate)
                {
                    if (closed || connections.Count == MaxConnections)
                        client.Dispose();
                    else if (connections.Add(connection))
                        _ = Task.Run(connection.ServeAsync);
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException) { } // disposed
    }

    public void Dispose()
    {
        Connection[] open;
        lock (gate)
        {
            closed = true;
            open = [.. connections];
        }
        listener.Dispose();
        foreach (var connection in open)
            connection.Close();
    }

    /// <summary>One process that has connected.</summary>
    private sealed class Connection(TcpStoreServer store, TcpClient client)
    {
        private readonly NetworkStream stream = client.GetStream();
        private List<string> awaited = []; // under the store's gate

        public async Task ServeAsync()
        {
            try
            {
                if ((Query)await ByteAsync() != Query.Validate || BitConverter.ToUInt32(await BytesAsync(4)) != Magic)
                    return;
                while (true)
                    await AnswerAsync((Query)await ByteAsync());
            }
            catch (Exception e)
                when (e is IOException or SocketException or ObjectDisposedException or InvalidDataException) { } // it left, or talks nonsense
            finally
            {
                lock (store.gate)
                    store.connections.Remove(this);
                Close();
            }
        }

        public void Close() => client.Dispose();

        private async Task AnswerAsync(Query query)
        {
            switch (query)
            {
                case Query.Ping:
                    Send(await BytesAsync(4));
                    break;
                case Query.Set:
                {
                    string key = await KeyAsync();
                    byte[] value = await ValueAsync();
                    lock (store.gate)
                        Store(key, value);
                    break;
                }
                case Query.Get:
                {
                    string key = await KeyAsync();
                    lock (store.gate)
                        SendValue(
                            store.entries.TryGetValue(key, out byte[]? value) ? value : throw new InvalidDataException()
                        );
                    break;
                }
                case Query.Add:
                    await AddAsync();
                    break;
                case Query.CompareSet:
                    await CompareSetAsync();
                    break;
                case Query.Check:
                {
                    var keys = await KeysAsync();
                    lock (store.gate)
                        Send([(byte)(keys.TrueForAll(store.entries.ContainsKey) ? 0 : 1)]);
                    break;
                }
                case Query.Wait:
                    await WaitAsync();
                    break;
                case Query.CancelWait:
                    lock (store.gate)
                    {
                        awaited = [];
                        Send([1]);
                    }
                    break;
                case Query.GetNumKeys:
                    lock (store.gate)
                        Send(BitConverter.GetBytes((long)store.entries.Count));
                    break;
                case Query.DeleteKey:
                {
                    string key = await KeyAsync();
                    lock (store.gate)
                        Send(BitConverter.GetBytes(store.entries.Remove(key) ? 1L : 0));
                    break;
                }
                default:
                    throw new InvalidDataException();
            }
        }

        /// <summary>Under the gate: keeps the value, and tells those who waited for it.</summary>
        private void Store(string key, byte[] value)
        {
            if (store.entries.Count == MaxEntries && !store.entries.ContainsKey(key))
                throw new InvalidDataException();
            store.entries[key] = value;
            foreach (var other in store.connections)
                if (other.awaited.Remove(key) && other.awaited.Count == 0)
                    other.Send([0]);
        }

        /// <summary>Counters are kept as decimal text, like PyTorch's.</summary>
        private async Task AddAsync()
        {
            string key = await KeyAsync();
            long sum = BitConverter.ToInt64(await BytesAsync(8));
            lock (store.gate)
            {
                if (store.entries.TryGetValue(key, out byte[]? before))
                    sum += long.TryParse(before, System.Globalization.CultureInfo.InvariantCulture, out long number)
                        ? number
                        : throw new InvalidDataException();
                Send(BitConverter.GetBytes(sum));
                Store(
                    key,
                    System.Text.Encoding.ASCII.GetBytes(sum.ToString(System.Globalization.CultureInfo.InvariantCulture))
                );
            }
        }

        private async Task CompareSetAsync()
        {
            string key = await KeyAsync();
            byte[] expected = await ValueAsync(),
                wanted = await ValueAsync();
            lock (store.gate)
            {
                bool known = store.entries.TryGetValue(key, out byte[]? current);
                if (known ? current.AsSpan().SequenceEqual(expected) : expected.Length == 0)
                    Store(key, wanted);
                SendValue(store.entries.TryGetValue(key, out current) ? current : expected);
            }
        }

        private async Task WaitAsync()
        {
            var keys = await KeysAsync();
            lock (store.gate)
            {
                awaited = [.. keys.Where(key => !store.entries.ContainsKey(key)).Distinct()];
                if (awaited.Count == 0)
                    Send([0]);
            }
        }

        // ---- bytes

        /// <summary>Under the gate, so that answers of different threads don't mix. They are small: the system takes them without waiting, or the other end is not reading.</summary>
        private void Send(byte[] bytes)
        {
            client.SendTimeout = 1000;
            try
            {
                stream.Write(bytes);
            }
            catch (Exception e) when (e is IOException or ObjectDisposedException)
            {
                Close();
            } // its own loop notices
        }

        private void SendValue(byte[] value) => Send([.. BitConverter.GetBytes((ulong)value.Length), .. value]);

        private async Task<byte> ByteAsync() => (await BytesAsync(1))[0];

        private async Task<byte[]> BytesAsync(int count)
        {
            byte[] bytes = new byte[count];
            await stream.ReadExactlyAsync(bytes);
            return bytes;
        }

        private async Task<byte[]> SizedAsync(int most)
        {
            ulong length = BitConverter.ToUInt64(await BytesAsync(8));
            return length <= (ulong)most ? await BytesAsync((int)length) : throw new InvalidDataException();
        }

        private async Task<string> KeyAsync() => System.Text.Encoding.UTF8.GetString(await SizedAsync(MaxKey));

        private Task<byte[]> ValueAsync() => SizedAsync(MaxValue);

        private async Task<List<string>> KeysAsync()
        {
            ulong count = BitConverter.ToUInt64(await BytesAsync(8));
            if (count > MaxKeys)
                throw new InvalidDataException();
            var keys = new List<string>();
            for (ulong i = 0; i < count; i++)
                keys.Add(await KeyAsync());
            return keys;
        }
    }
}
