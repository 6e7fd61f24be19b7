using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace SimpleR1.Sync.Rendezvous;

/// <summary>Broadcasts over TCP, for weights in the CPU's memory: rank 0 listens, the others connect to what its id says.</summary>
/// <param name="address">Of rank 0, for the others; the loopback interface by default.</param>
public sealed class TcpCollectives(IPAddress? address = null) : ICollectives, IDisposable
{
    private const string Kind = "simple-r1 tcp 1\n";
    private const int TokenBytes = 32;

    private readonly Lock gate = new();
    private readonly Dictionary<string, TcpListener> listening = []; // by id

    public string Name => "tcp";

    /// <summary>The kind, a secret that the others show, and where rank 0 listens.</summary>
    public byte[] NewId()
    {
        var listener = new TcpListener(address ?? IPAddress.Loopback, 0);
        listener.Start();
        byte[] id = new byte[PickledNcclId.Length];
        Encoding.ASCII.GetBytes(Kind, id);
        RandomNumberGenerator.Fill(id.AsSpan(Kind.Length, TokenBytes));
        Encoding.ASCII.GetBytes(listener.LocalEndpoint.ToString()!, id.AsSpan(Kind.Length + TokenBytes));
        lock (gate) listening.Add(Convert.ToHexString(id), listener);
        return id;
    }

    public IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout)
    {
        if (id.Length != PickledNcclId.Length || !id.StartsWith(Encoding.ASCII.GetBytes(Kind)))
            throw new InvalidDataException("the group's id is one of NCCL, and this process has only TCP to receive weights by: its weights are in the CPU's memory. Use a trainer that sends by TCP (SimpleR1's)");
        if (worldSize < 2 || rank < 0 || rank >= worldSize) throw new ArgumentOutOfRangeException(nameof(rank), rank, $"expected a rank from 0 to {worldSize - 1} in a group of at least 2");
        byte[] token = id.Slice(Kind.Length, TokenBytes).ToArray();
        if (rank == 0) return Lead(Convert.ToHexString(id), token, worldSize, timeout);
        string where = Encoding.ASCII.GetString(id[(Kind.Length + TokenBytes)..]).TrimEnd('\0');
        if (!IPEndPoint.TryParse(where, out var endpoint)) throw new InvalidDataException($"the group's id says that rank 0 is at '{where}', which is no address");
        return Follow(endpoint, token, timeout);
    }

    private Group Lead(string id, byte[] token, int worldSize, TimeSpan timeout)
    {
        TcpListener listener;
        lock (gate)
            if (!listening.Remove(id, out listener!)) throw new InvalidOperationException("rank 0 must be who made the id, and join once");
        using (listener)
        {
            var group = new Group(leads: true, timeout);
            try
            {
                using var late = new CancellationTokenSource(timeout);
                while (group.Count < worldSize - 1)
                {
                    Socket socket;
                    try { socket = listener.AcceptSocketAsync(late.Token).AsTask().GetAwaiter().GetResult(); }
                    catch (OperationCanceledException) { throw new TimeoutException($"waited {timeout.TotalSeconds:0.#} s for {worldSize - 1} processes to join; {group.Count} did"); }
                    if (!Shows(socket, token)) socket.Dispose();
                    else group.Add(socket);
                }
                group.SendAll([1]); // all are here
                return group;
            }
            catch
            {
                group.Dispose();
                throw;
            }
        }
    }

    private static bool Shows(Socket socket, byte[] token)
    {
        byte[] shown = new byte[TokenBytes];
        socket.ReceiveTimeout = 2000;
        try
        {
            for (int read = 0; read < shown.Length;)
            {
                int count = socket.Receive(shown.AsSpan(read));
                if (count == 0) return false;
                read += count;
            }
            return CryptographicOperations.FixedTimeEquals(shown, token);
        }
        catch (SocketException) { return false; }
    }

    private static unsafe Group Follow(IPEndPoint endpoint, byte[] token, TimeSpan timeout)
    {
        var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        var group = new Group(leads: false, timeout);
        try
        {
            socket.Connect(endpoint);
            group.Add(socket);
            group.SendAll(token);
            byte here = 0;
            group.Receive((nint)(&here), 1);
            return group;
        }
        catch (SocketException e)
        {
            group.Dispose();
            throw new IOException($"rank 0 can't be reached at {endpoint}: {e.Message}", e);
        }
        catch
        {
            group.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        lock (gate)
        {
            foreach (var listener in listening.Values) listener.Dispose();
            listening.Clear();
        }
    }

    /// <summary>Rank 0 has a socket for each other process, the others have one, to rank 0.</summary>
    private sealed unsafe class Group(bool leads, TimeSpan timeout) : IWeightGroup
    {
        private readonly List<Socket> sockets = [];

        public int Count => sockets.Count;

        public void Add(Socket socket)
        {
            socket.NoDelay = true;
            socket.SendTimeout = socket.ReceiveTimeout = (int)Math.Min(int.MaxValue, timeout.TotalMilliseconds);
            sockets.Add(socket);
        }

        public void SendAll(byte[] bytes)
        {
            fixed (byte* memory = bytes) Send((nint)memory, bytes.Length);
        }

        public void Broadcast(nint memory, long bytes)
        {
            if (leads) Send(memory, bytes);
            else Receive(memory, bytes);
        }

        private void Send(nint memory, long bytes)
        {
            foreach (var socket in sockets)
                for (long sent = 0; sent < bytes;)
                    sent += Try(() => socket.Send(new ReadOnlySpan<byte>((byte*)memory + sent, (int)Math.Min(1 << 20, bytes - sent))), "take", sent, bytes);
        }

        public void Receive(nint memory, long bytes)
        {
            for (long read = 0; read < bytes;)
            {
                int count = Try(() => sockets[0].Receive(new Span<byte>((byte*)memory + read, (int)Math.Min(1 << 20, bytes - read))), "send", read, bytes);
                if (count == 0) throw new IOException($"rank 0 hung up after {read} of {bytes} bytes");
                read += count;
            }
        }

        private int Try(Func<int> transfer, string verb, long done, long bytes)
        {
            try { return transfer(); }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.TimedOut or SocketError.WouldBlock) { throw new TimeoutException($"waited {timeout.TotalSeconds:0.#} s for the other end to {verb} more than {done} of {bytes} bytes", e); }
            catch (SocketException e) { throw new IOException($"the connection broke after {done} of {bytes} bytes: {e.Message}", e); }
        }

        public void Dispose()
        {
            foreach (var socket in sockets) socket.Dispose();
        }
    }
}
