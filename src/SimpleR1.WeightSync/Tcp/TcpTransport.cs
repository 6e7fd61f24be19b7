using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Runtime.ExceptionServices;
using System.Security.Authentication;
using System.Security.Cryptography;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// Between machines: a worker opens some connections to the trainer, shows the offer's token on each and asks for its share of the chunks, which are
/// read from the sockets straight into its live buffer. A chunk whose checksum is wrong is asked for again.
/// </summary>
/// <remarks>
/// Wire format, little-endian. Worker → trainer: 32 bytes of token, uint64 hash of the weights it holds (0: none); then any number of
/// (int32 first chunk, int32 count), count 0 at the end. Trainer → worker: for each chunk int32 index, int32 length, uint64 checksum of the data, data. A chunk's checksum
/// is its part of the <see cref="WeightHash"/>, so that what arrived is read once for both; that of other data is their hash;
/// a negative length is that of a <see cref="WeightDelta"/>, sent where the trainer keeps the last version and the worker holds it.
/// With a <see cref="ClusterKey"/> all of it is inside TLS, and both ends prove that they have the key. Without one it is not encrypted: the
/// token keeps strangers from fetching, not from listening, so keep it on the loopback interface.
/// </remarks>
public sealed class TcpTransport : IWeightTransport
{
    private const int TokenBytes = 32,
        HelloBytes = TokenBytes + 8,
        RequestBytes = 8,
        HeaderBytes = 16,
        TriesPerChunk = 3,
        EmptyDelta = int.MinValue,
        MaxConnections = 4,
        MinBytesPerConnection = 32 << 20;

    private readonly IPEndPoint bind;
    private readonly ClusterKey? key;
    private readonly TimeSpan timeout;
    private readonly Lock gate = new();
    private readonly List<Sending> offers = [];
    private readonly Dictionary<ScalarType, WeightHistory>? histories; // by the receivers' type; null where deltas are not wanted
    private TcpListener? listener;
    private readonly List<ChunkWriter> writers = []; // of the last destination, one for each connection
    private readonly int? connections;

    /// <param name="bind">Where the trainer listens; by default on the loopback interface, port of the system's choice.</param>
    /// <param name="timeout">Longest wait of the trainer for a worker's next request or for room to send; 60 s by default.</param>
    /// <param name="key">Encrypts and authenticates; both ends must have it, or both none.</param>
    /// <param name="delta">The trainer keeps the version it sent last, and sends only what has changed since to workers that hold it, where that is less.</param>
    /// <param name="connections">By which a worker receives; by default up to four, one for each four of its cores and 32 MiB of weights.</param>
    public TcpTransport(
        IPEndPoint? bind = null,
        TimeSpan? timeout = null,
        ClusterKey? key = null,
        bool delta = false,
        int? connections = null
    )
    {
        this.connections = connections;
        this.key = key;
        histories = delta ? [] : null;
        this.bind = bind ?? new(IPAddress.Loopback, 0);
        if (this.bind.Address.Equals(IPAddress.Any) || this.bind.Address.Equals(IPAddress.IPv6Any))
            throw new ArgumentException(
                $"{bind} names no address that workers could connect to; name the one of the network they are in",
                nameof(bind)
            );
        this.timeout = timeout ?? TimeSpan.FromSeconds(60);
    }

    public string Name => "tcp";

    public bool IsCollective => false;

    /// <summary>Bytes of weights that went out, headers not counted.</summary>
    public long SentBytes => Interlocked.Read(ref sentBytes);
    private long sentBytes;

    public bool CanOffer(FlatWeights source) => source.Device is null;

    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers)
    {
        plan.RequireSource(source);
        lock (gate)
        {
            if (listener is null)
                Listen();
            WeightHistory.Deltas? deltas = null;
            if (histories is not null)
            {
                if (!histories.TryGetValue(plan.ElementType, out var history))
                    histories.Add(plan.ElementType, history = new(plan.ElementType, plan.Length));
                deltas = history.Advance(source, plan);
            }
            var offer = new Sending(source.Pointer, plan, RandomNumberGenerator.GetBytes(TokenBytes), deltas);
            offers.Add(offer);
            string address = $"{listener!.LocalEndpoint}/{Convert.ToHexString(offer.Token)}";
            return new(
                [.. receivers.Select(_ => new WeightInvitation(Name, address, plan))],
                Task.CompletedTask,
                () => End(offer)
            );
        }
    }

    public bool CanReceive(WeightInvitation invitation) => invitation.Transport == Name;

    public ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation = default
    )
    {
        var plan = invitation.Plan;
        plan.RequireSame(destination);
        destination.Device?.Synchronize(); // other streams will write to them
        ulong holds = destination.ProvenHash;
        destination.ProvenHash = 0;
        if (writers.Any(w => w.Weights != destination))
            DisposeWriters();
        int count =
            connections
            ?? (int)
                Math.Clamp(
                    Math.Min(Environment.ProcessorCount / 4, plan.ByteLength / MinBytesPerConnection),
                    1,
                    MaxConnections
                );
        while (writers.Count < count)
            writers.Add(new(destination));
        using var broken = CancellationTokenSource.CreateLinkedTokenSource(cancellation); // when one connection fails, none goes on
        Exception? failure = null;
        void Share(int i)
        {
            try
            {
                int first = (int)((long)plan.Chunks * i / count),
                    end = (int)((long)plan.Chunks * (i + 1) / count);
                Fetch(writers[i], invitation, (first, end - first), holds, timeout, broken.Token);
            }
            catch (Exception e)
            {
                if (Interlocked.CompareExchange(ref failure, e, null) is null)
                    broken.Cancel();
            }
        }
        var threads = Enumerable
            .Range(1, count - 1)
            .Select(i => new Thread(() => Share(i)) { IsBackground = true, Name = "weights by tcp" })
            .ToArray();
        foreach (var thread in threads)
            thread.Start();
        Share(0);
        foreach (var thread in threads)
            thread.Join();
        destination.Device?.Use();
        if (cancellation.IsCancellationRequested && failure is IOException or ObjectDisposedException)
            failure = new OperationCanceledException(
                $"Receiving weights version {plan.Version} was broken off",
                failure,
                cancellation
            );
        if (failure is not null)
            ExceptionDispatchInfo.Throw(failure);
        var received = destination.Device is null
            ? new(writers.Take(count).Aggregate(0ul, (sum, w) => sum + w.Hash))
            : ReceivedWeights.Of(destination);
        destination.ProvenHash = received.Hash;
        return received;
    }

    /// <summary>Receives some of the chunks by a connection of its own.</summary>
    /// <param name="holds">Hash of what the receiver holds; 0 where that is not known.</param>
    private void Fetch(
        ChunkWriter writer,
        WeightInvitation invitation,
        (int First, int Count) share,
        ulong holds,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        var plan = invitation.Plan;
        string[] address = invitation.Address.Split('/');
        string sender = address[0];
        using var stream = Connect(IPEndPoint.Parse(sender), timeout, cancellation);
        using var broken = cancellation.Register(stream.Dispose);
        using var written = writer.Begin();
        Span<byte> hello = stackalloc byte[HelloBytes];
        Convert.FromHexString(address[1]).CopyTo(hello);
        BinaryPrimitives.WriteUInt64LittleEndian(hello[TokenBytes..], holds);
        Send(stream, hello, sender);
        var waiting = new List<int>();
        Span<byte> header = stackalloc byte[HeaderBytes];
        for (int attempt = 1; ; attempt++)
        {
            var ranges = attempt == 1 ? [share] : waiting.ConvertAll(index => (First: index, Count: 1));
            waiting.Clear();
            foreach (var (first, count) in ranges)
            {
                Request(stream, first, count, sender);
                for (int index = first; index < first + count; index++)
                    if (!Take(stream, writer, plan, index, header, sender, timeout))
                        if (attempt < TriesPerChunk)
                            waiting.Add(index);
                        else
                            throw new IOException($"Damaged {TriesPerChunk} times: {Awaited(plan, index, sender)}");
            }
            if (waiting.Count == 0)
                break;
        }
        Request(stream, 0, 0, sender);
    }

    /// <summary>Receives one chunk.</summary>
    /// <param name="header">Room for one.</param>
    /// <returns>False when it was damaged on the way, and was not written.</returns>
    private static bool Take(
        Stream stream,
        ChunkWriter writer,
        BroadcastPlan plan,
        int index,
        Span<byte> header,
        string sender,
        TimeSpan timeout
    )
    {
        var (offset, length) = plan.Chunk(index);
        string awaited = Awaited(plan, index, sender);
        ReadExactly(stream, header, awaited, timeout);
        int foundIndex = BinaryPrimitives.ReadInt32LittleEndian(header),
            foundLength = BinaryPrimitives.ReadInt32LittleEndian(header[4..]);
        bool whole = foundLength == length;
        int deltaLength = foundLength == EmptyDelta ? 0 : -foundLength;
        if (foundIndex != index || !whole && (foundLength > 0 || deltaLength < 0 || deltaLength >= length))
            throw new IOException(
                $"Expected {awaited} ({length} bytes), found chunk {foundIndex + 1} ({foundLength} bytes): the stream is out of step"
            );
        var room = whole ? writer.Room(offset, length) : writer.DeltaRoom(deltaLength);
        ReadExactly(stream, room, awaited, timeout); // as much at once as there is: smaller pieces cost more waiting than the cache saves
        ulong sum = Checksum(room, whole ? offset : 0);
        if (sum != BinaryPrimitives.ReadUInt64LittleEndian(header[8..]))
            return false;
        if (whole)
            writer.Write(offset, length, sum);
        else
            writer.WriteDelta(offset, length, deltaLength);
        return true;
    }

    private static string Awaited(BroadcastPlan plan, int index, string sender) =>
        $"chunk {index + 1} of {plan.Chunks} of weights version {plan.Version} from {sender}";

    public void Dispose()
    {
        Sending[] open;
        lock (gate)
        {
            listener?.Dispose();
            open = [.. offers];
        }
        foreach (var offer in open)
            End(offer);
        foreach (var history in histories?.Values ?? Enumerable.Empty<WeightHistory>())
            history.Dispose();
        DisposeWriters();
    }

    private void DisposeWriters()
    {
        foreach (var writer in writers)
            writer.Dispose();
        writers.Clear();
    }

    /// <param name="offset">The chunk's place in the weights; 0 for other data.</param>
    private static unsafe ulong Checksum(ReadOnlySpan<byte> data, long offset)
    {
        fixed (byte* memory = data)
            return WeightHash.Part((nint)memory, data.Length, offset);
    }

    // ---- the worker's end

    private Stream Connect(IPEndPoint sender, TimeSpan timeout, CancellationToken cancellation)
    {
        var socket = new Socket(sender.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(timeout);
        try
        {
            using var late = deadline.Token.Register(socket.Dispose);
            // Synchronously: one that was once used asynchronously would wait for each piece by way of the runtime's event thread.
            socket.Connect(sender);
            socket.SendTimeout = socket.ReceiveTimeout = (int)timeout.TotalMilliseconds;
            var stream = new NetworkStream(socket, ownsSocket: true);
            return key is null ? stream : key.SecureOpened(stream);
        }
        catch (Exception e)
        {
            socket.Dispose();
            if (e is AuthenticationException)
                throw new IOException(
                    $"The trainer's weights at {sender} are not those of this cluster: its key differs, or it has none",
                    e
                );
            if (cancellation.IsCancellationRequested)
                throw new OperationCanceledException(
                    $"Connecting to the trainer's weights at {sender} was broken off",
                    e,
                    cancellation
                );
            if (deadline.IsCancellationRequested)
                throw new TimeoutException(
                    $"Waited {timeout.TotalSeconds:0.#} s for a connection to the trainer's weights at {sender}",
                    e
                );
            throw new IOException($"No connection to the trainer's weights at {sender}: {e.Message}", e);
        }
    }

    private static void Request(Stream stream, int first, int count, string sender)
    {
        Span<byte> request = stackalloc byte[RequestBytes];
        BinaryPrimitives.WriteInt32LittleEndian(request, first);
        BinaryPrimitives.WriteInt32LittleEndian(request[4..], count);
        Send(stream, request, sender);
    }

    private static void ReadExactly(Stream stream, Span<byte> into, string awaited, TimeSpan timeout)
    {
        for (int read; into.Length > 0; into = into[read..])
        {
            try
            {
                read = stream.Read(into);
            }
            catch (IOException e)
                when (e.InnerException
                        is SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock }
                )
            {
                throw new TimeoutException($"Waited {timeout.TotalSeconds:0.#} s for {awaited}");
            }
            catch (IOException e)
            {
                throw new IOException($"Lost the connection while waiting for {awaited}: {e.Message}", e);
            }
            if (read == 0)
                throw new IOException(
                    $"The trainer closed the connection before {awaited} was complete (it has ended, or the offer was withdrawn)"
                );
        }
    }

    private static void Send(Stream stream, ReadOnlySpan<byte> data, string peer)
    {
        try
        {
            stream.Write(data);
        }
        catch (IOException e)
        {
            throw new IOException($"Sending to {peer} failed: {e.Message}", e);
        }
    }

    // ---- the trainer's end

    /// <summary>One offer: the memory, and the connections that read it.</summary>
    private sealed record Sending(nint Memory, BroadcastPlan Plan, byte[] Token, WeightHistory.Deltas? Deltas)
    {
        public readonly List<(Socket Socket, Thread Thread)> Connections = [];

        /// <summary>Checksums of whole chunks, where one has been sent already; else 0.</summary>
        public readonly ulong[] Sums = new ulong[Plan.Chunks];
    }

    private void Listen()
    {
        listener = new TcpListener(bind);
        try
        {
            listener.Start();
        }
        catch (SocketException e)
        {
            throw new IOException(
                $"Can't listen on {bind} for weight transfers: {e.Message}. Choose another address or port, or 0 for any free port.",
                e
            );
        }
        var accepting = listener;
        new Thread(() => Accept(accepting)) { IsBackground = true, Name = "weight listener" }.Start();
    }

    private void Accept(TcpListener accepting)
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = accepting.AcceptSocket();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
            {
                return;
            } // disposed
            new Thread(() => Serve(socket))
            {
                IsBackground = true,
                Name = "weights to " + socket.RemoteEndPoint,
            }.Start();
        }
    }

    private unsafe void Serve(Socket socket)
    {
        using (socket)
        {
            string receiver = $"a worker at {socket.RemoteEndPoint}";
            try
            {
                socket.NoDelay = true;
                socket.SendTimeout = socket.ReceiveTimeout = (int)timeout.TotalMilliseconds;
                using var plain = new NetworkStream(socket);
                Span<byte> first = stackalloc byte[1];
                if (key is not null)
                    ClusterKey.RequireTls(first[..socket.Receive(first, SocketFlags.Peek)]);
                using Stream stream = key is null ? plain : key.SecureAccepted(plain);
                Span<byte> hello = stackalloc byte[HelloBytes],
                    request = stackalloc byte[RequestBytes];
                ReadExactly(stream, hello, $"the token of {receiver}", timeout);
                if (Admit(hello[..TokenBytes], socket) is not { } offer)
                    return; // a stranger, or too late: the closed connection tells a worker so
                ulong holds = BinaryPrimitives.ReadUInt64LittleEndian(hello[TokenBytes..]);
                var deltas = holds != 0 && offer.Deltas?.BaseHash == holds ? offer.Deltas : null;
                byte[] converted =
                    offer.Plan.SourceType == offer.Plan.ElementType ? [] : new byte[offer.Plan.ChunkBytes];
                while (true)
                {
                    ReadExactly(stream, request, $"the next request of {receiver}", timeout);
                    int from = BinaryPrimitives.ReadInt32LittleEndian(request),
                        count = BinaryPrimitives.ReadInt32LittleEndian(request[4..]);
                    if (count == 0)
                        return;
                    for (int index = from; index < from + count; index++)
                        SendChunk(stream, offer, index, deltas, converted, receiver);
                }
            }
            // The worker has the other end, and reports the failure with its own reason over the control plane.
            catch (Exception e)
                when (e
                        is IOException
                            or TimeoutException
                            or SocketException
                            or ObjectDisposedException
                            or ArgumentOutOfRangeException
                            or AuthenticationException
                ) { }
        }
    }

    private unsafe void SendChunk(
        Stream stream,
        Sending offer,
        int index,
        WeightHistory.Deltas? deltas,
        byte[] converted,
        string receiver
    )
    {
        var (offset, length) = offer.Plan.Chunk(index);
        Span<byte> header = stackalloc byte[HeaderBytes];
        ReadOnlySpan<byte> data;
        int told = length;
        if (deltas?.Chunks[index] is { } delta)
        {
            data = delta;
            told = delta.Length == 0 ? EmptyDelta : -delta.Length;
        }
        else if (converted.Length == 0)
            data = new((byte*)offer.Memory + offset, length);
        else
        {
            var (from, to) = (NumberConversion.Of(offer.Plan.SourceType), NumberConversion.Of(offer.Plan.ElementType));
            int count = length / NumberConversion.Size(to);
            fixed (byte* room = converted)
                NumberConversion.Convert(
                    (byte*)offer.Memory + offset / NumberConversion.Size(to) * NumberConversion.Size(from),
                    from,
                    room,
                    to,
                    count
                );
            data = converted.AsSpan(0, length);
        }
        BinaryPrimitives.WriteInt32LittleEndian(header, index);
        BinaryPrimitives.WriteInt32LittleEndian(header[4..], told);
        bool whole = told == length;
        ulong sum = whole ? offer.Sums[index] : 0;
        if (sum == 0)
            sum = Checksum(data, whole ? offset : 0);
        if (whole)
            offer.Sums[index] = sum;
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], sum);
        Interlocked.Add(ref sentBytes, data.Length); // before a receiver can have it, and say so
        Send(stream, header, receiver);
        Send(stream, data, receiver);
    }

    private Sending? Admit(ReadOnlySpan<byte> token, Socket socket)
    {
        lock (gate)
            foreach (var offer in offers)
                if (CryptographicOperations.FixedTimeEquals(offer.Token, token))
                {
                    offer.Connections.Add((socket, Thread.CurrentThread));
                    return offer;
                }
        return null;
    }

    private void End(Sending offer)
    {
        lock (gate)
            offers.Remove(offer);
        foreach (var (socket, thread) in offer.Connections)
        {
            socket.Dispose(); // wakes its thread wherever it waits
            thread.Join(); // it reads the source's memory, which may be gone after this
        }
    }
}
