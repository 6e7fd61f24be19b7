using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Channels;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>Broadcasts over TCP, for weights in the CPU's memory: rank 0 listens, the others connect to what its id says.</summary>
/// <param name="address">Of rank 0, for the others; the loopback interface by default.</param>
/// <param name="key">All ranks have it or none: each connection is then TLS in which both ends prove it.</param>
public sealed class TcpCollectives(IPAddress? address = null, ClusterKey? key = null) : ICollectives
{
    private const string Plain = "simple-r1 tcp 1\n",
        Encrypted = "simple-r1 tls 1\n"; // equally long
    private const int TokenBytes = 32,
        MaxArriving = 1024;
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10);

    private readonly Lock gate = new();
    private readonly Dictionary<string, TcpListener> listening = []; // by id
    private readonly CancellationTokenSource disposed = new();

    public string Name => key is null ? "tcp" : "tls";
    private string Kind => key is null ? Plain : Encrypted;

    /// <summary>Whether an id is one of these collectives, with a key or without, rather than NCCL's.</summary>
    public static bool Made(ReadOnlySpan<byte> id) =>
        id.StartsWith(Encoding.ASCII.GetBytes(Plain)) || id.StartsWith(Encoding.ASCII.GetBytes(Encrypted));

    /// <summary>The kind, a secret that the others show, and where rank 0 listens.</summary>
    public byte[] NewId()
    {
        var listener = new TcpListener(address ?? IPAddress.Loopback, 0);
        listener.Start();
        byte[] id = new byte[PickledNcclId.Length];
        Encoding.ASCII.GetBytes(Kind, id);
        RandomNumberGenerator.Fill(id.AsSpan(Kind.Length, TokenBytes));
        Encoding.ASCII.GetBytes(listener.LocalEndpoint.ToString()!, id.AsSpan(Kind.Length + TokenBytes));
        lock (gate)
            listening.Add(Convert.ToHexString(id), listener);
        return id;
    }

    public IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout)
    {
        if (id.Length != PickledNcclId.Length || !id.StartsWith(Encoding.ASCII.GetBytes(Kind)))
            throw new InvalidDataException(
                id.StartsWith(Encoding.ASCII.GetBytes(Plain))
                    ? "the group's id is one of processes without a cluster key, and this one has a key: give rank 0 the same"
                : id.StartsWith(Encoding.ASCII.GetBytes(Encrypted))
                    ? "the group's id is one of processes with a cluster key, and this one has none: give it the same"
                : "the group's id is one of NCCL, and this process has only TCP to receive weights by: its weights are in the CPU's memory. Use a trainer that sends by TCP (SimpleR1's)"
            );
        if (worldSize < 2 || rank < 0 || rank >= worldSize)
            throw new ArgumentOutOfRangeException(
                nameof(rank),
                rank,
                $"expected a rank from 0 to {worldSize - 1} in a group of at least 2"
            );
        byte[] token = id.Slice(Kind.Length, TokenBytes).ToArray();
        if (rank == 0)
            return LeadAsync(Convert.ToHexString(id), token, worldSize, timeout).GetAwaiter().GetResult();
        string where = Encoding.ASCII.GetString(id[(Kind.Length + TokenBytes)..]).TrimEnd('\0');
        if (!IPEndPoint.TryParse(where, out var endpoint))
            throw new InvalidDataException($"the group's id says that rank 0 is at '{where}', which is no address");
        return FollowAsync(endpoint, token, timeout).GetAwaiter().GetResult();
    }

    private async Task<Group> LeadAsync(string id, byte[] token, int worldSize, TimeSpan timeout)
    {
        TcpListener listener;
        lock (gate)
            if (!listening.Remove(id, out listener!))
                throw new InvalidOperationException("rank 0 must be who made the id, and join once");
        using var late = CancellationTokenSource.CreateLinkedTokenSource(disposed.Token);
        late.CancelAfter(timeout);
        var group = new Group(leads: true, timeout);
        var arrivals = new Arrivals(token, key);
        var accepting = arrivals.AcceptAsync(listener, late.Token);
        try
        {
            while (group.Count < worldSize - 1)
                group.Add(await arrivals.NextAsync(late.Token));
            group.SayAllAreHere();
            return group;
        }
        catch (Exception e)
        {
            group.Dispose();
            if (e is OperationCanceledException && disposed.IsCancellationRequested)
                throw new ObjectDisposedException(nameof(TcpCollectives));
            if (e is OperationCanceledException)
                throw new TimeoutException(
                    $"waited {timeout.TotalSeconds:0.#} s for {worldSize - 1} processes to join; {group.Count} did{(arrivals.Refused > 0 ? $", and {arrivals.Refused} connections were refused that did not prove that they belong to the group" : "")}"
                );
            throw;
        }
        finally
        {
            await late.CancelAsync(); // who still arrives is too late
            listener.Dispose();
            await accepting;
            arrivals.Close();
        }
    }

    private async Task<Group> FollowAsync(IPEndPoint endpoint, byte[] token, TimeSpan timeout)
    {
        var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        var group = new Group(leads: false, timeout);
        try
        {
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(disposed.Token);
            deadline.CancelAfter(HandshakeTimeout);
            await socket.ConnectAsync(endpoint, deadline.Token);
            Stream stream = new NetworkStream(socket, ownsSocket: true);
            if (key is not null)
                stream = await key.SecureOpenedAsync(stream, deadline.Token);
            group.Add(new(socket, stream));
            group.Show(token);
            return group;
        }
        catch (Exception e)
        {
            group.Dispose();
            socket.Dispose();
            throw e switch
            {
                SocketException => new IOException($"rank 0 can't be reached at {endpoint}: {e.Message}", e),
                AuthenticationException => new IOException(
                    $"rank 0 at {endpoint} did not prove that it has this cluster's key",
                    e
                ),
                OperationCanceledException when !disposed.IsCancellationRequested => new TimeoutException(
                    $"waited {HandshakeTimeout.TotalSeconds:0} s for a connection to rank 0 at {endpoint}",
                    e
                ),
                _ => e,
            };
        }
    }

    public void Dispose()
    {
        disposed.Cancel(); // who still waits for a group
        lock (gate)
        {
            foreach (var listener in listening.Values)
                listener.Dispose();
            listening.Clear();
        }
    }

    /// <summary>A connection to another rank.</summary>
    private sealed record Peer(Socket Socket, Stream Stream) : IDisposable
    {
        public void Dispose()
        {
            Socket.Dispose(); // first: it wakes whoever waits in the stream
            Stream.Dispose();
        }
    }

    /// <summary>Who connects to rank 0. Each proves itself in its own time and with a deadline, so that a stranger delays nobody.</summary>
    private sealed class Arrivals(byte[] token, ClusterKey? key)
    {
        private readonly Channel<Peer> proven = Channel.CreateUnbounded<Peer>();
        private int arriving,
            refused;

        /// <summary>Connections that showed no key or token.</summary>
        public int Refused => Volatile.Read(ref refused);

        public ValueTask<Peer> NextAsync(CancellationToken cancellation) => proven.Reader.ReadAsync(cancellation);

        public async Task AcceptAsync(TcpListener listener, CancellationToken cancellation)
        {
            while (true)
            {
                Socket socket;
                try
                {
                    socket = await listener.AcceptSocketAsync(cancellation);
                }
                catch (Exception e) when (e is OperationCanceledException or InvalidOperationException)
                {
                    return;
                } // the latter: disposed
                catch (SocketException)
                {
                    continue;
                } // that one was gone again
                if (Volatile.Read(ref arriving) < MaxArriving)
                    _ = ProveAsync(socket, cancellation);
                else
                    socket.Dispose();
            }
        }

        private async Task ProveAsync(Socket socket, CancellationToken cancellation)
        {
            Interlocked.Increment(ref arriving);
            Stream stream = new NetworkStream(socket, ownsSocket: true);
            try
            {
                using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                deadline.CancelAfter(HandshakeTimeout);
                if (key is not null)
                    stream = await key.SecureAcceptedAsync(stream, deadline.Token);
                byte[] shown = new byte[TokenBytes];
                await stream.ReadExactlyAsync(shown, deadline.Token);
                if (!CryptographicOperations.FixedTimeEquals(shown, token))
                    throw new AuthenticationException();
                if (proven.Writer.TryWrite(new(socket, stream)))
                    return; // else it is too late
            }
            catch (Exception e)
                when (e
                        is AuthenticationException
                            or IOException
                            or SocketException
                            or OperationCanceledException
                            or ObjectDisposedException
                )
            {
                if (!cancellation.IsCancellationRequested)
                    Interlocked.Increment(ref refused);
            }
            finally
            {
                Interlocked.Decrement(ref arriving);
            }
            socket.Dispose();
            await stream.DisposeAsync();
        }

        public void Close()
        {
            proven.Writer.TryComplete();
            while (proven.Reader.TryRead(out var late))
                late.Dispose();
        }
    }

    /// <summary>Rank 0 has a connection to each other process, the others have one, to rank 0.</summary>
    private sealed unsafe class Group(bool leads, TimeSpan timeout) : IWeightGroup
    {
        private readonly List<Peer> peers = [];

        public CudaDevice? Device => null;
        public int Count => peers.Count;

        public void Add(Peer peer)
        {
            peer.Socket.NoDelay = true;
            peer.Socket.SendTimeout = peer.Socket.ReceiveTimeout = (int)
                Math.Min(int.MaxValue, timeout.TotalMilliseconds);
            peers.Add(peer);
        }

        public void SayAllAreHere()
        {
            byte here = 1;
            Send((nint)(&here), 1);
        }

        /// <summary>Shows the token, and waits until all are here.</summary>
        public void Show(byte[] token)
        {
            fixed (byte* memory = token)
                Send((nint)memory, token.Length);
            byte here = 0;
            Receive((nint)(&here), 1);
        }

        public void Broadcast(nint memory, long bytes)
        {
            if (leads)
                Send(memory, bytes);
            else
                Receive(memory, bytes);
        }

        private void Send(nint memory, long bytes)
        {
            foreach (var peer in peers)
                for (long sent = 0; sent < bytes; )
                {
                    int count = (int)Math.Min(1 << 20, bytes - sent);
                    Try(
                        () =>
                        {
                            peer.Stream.Write(new ReadOnlySpan<byte>((byte*)memory + sent, count));
                            return count;
                        },
                        "take",
                        sent,
                        bytes
                    );
                    sent += count;
                }
        }

        private void Receive(nint memory, long bytes)
        {
            for (long read = 0; read < bytes; )
            {
                int count = Try(
                    () =>
                        peers[0]
                            .Stream.Read(new Span<byte>((byte*)memory + read, (int)Math.Min(1 << 20, bytes - read))),
                    "send",
                    read,
                    bytes
                );
                if (count == 0)
                    throw new IOException($"rank 0 hung up after {read} of {bytes} bytes");
                read += count;
            }
        }

        private int Try(Func<int> transfer, string verb, long done, long bytes)
        {
            try
            {
                return transfer();
            }
            catch (IOException e)
                when (e.InnerException
                        is SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock }
                )
            {
                throw new TimeoutException(
                    $"waited {timeout.TotalSeconds:0.#} s for the other end to {verb} more than {done} of {bytes} bytes",
                    e
                );
            }
            catch (IOException e)
            {
                throw new IOException($"the connection broke after {done} of {bytes} bytes: {e.Message}", e);
            }
        }

        public void Dispose()
        {
            foreach (var peer in peers)
                peer.Dispose();
        }
    }
}
