using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using SimpleR1.Models;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// The trainer's end of <see cref="TcpTransport"/>: listens, and serves each worker's connection on its own
/// thread.
/// </summary>
internal sealed class TcpSender(IPEndPoint bind, TimeSpan timeout, ClusterKey? key, bool delta, Action<string> log)
    : IDisposable
{
    private static readonly TimeSpan ProofTimeout = TimeSpan.FromSeconds(10);

    private readonly Lock gate = new();
    private readonly List<TcpOffer> offers = [];
    private readonly Dictionary<ScalarType, WeightHistory> histories = []; // for deltas, by the receivers' type
    private readonly CancellationTokenSource stopping = new();
    private readonly UnprovenConnections unproven = new();
    private readonly ThrottledLog refusals = new(log);
    private TcpListener? listener;
    private long sentBytes;

    /// <summary>Bytes of weights that were sent, headers not counted.</summary>
    public long SentBytes => Interlocked.Read(ref sentBytes);

    /// <exception cref="IOException">The address or port cannot be listened on.</exception>
    public TcpOffer Offer(FlatWeights source, BroadcastPlan plan)
    {
        plan.RequireSource(source);
        lock (gate)
        {
            listener ??= Listen();
            var deltas = delta ? History(plan).Advance(source, plan) : null;
            byte[] token = RandomNumberGenerator.GetBytes(TcpWire.TokenBytes);
            string address = $"{listener.LocalEndpoint}/{Convert.ToHexString(token)}";
            var offer = new TcpOffer(source.Pointer, plan, deltas, token, address);
            offers.Add(offer);
            return offer;
        }
    }

    private WeightHistory History(BroadcastPlan plan)
    {
        if (!histories.TryGetValue(plan.ElementType, out var history))
            histories.Add(plan.ElementType, history = new(plan.ElementType, plan.Length));
        return history;
    }

    /// <summary>Ends an offer; returns when no connection reads its memory any more.</summary>
    public void End(TcpOffer offer)
    {
        lock (gate)
            offers.Remove(offer);
        foreach (var (socket, thread) in offer.Connections)
        {
            socket.Dispose(); // wakes its thread wherever it waits
            thread.Join(); // it reads the source's memory, which may be freed after this
        }
    }

    private TcpListener Listen()
    {
        var listening = new TcpListener(bind);
        try
        {
            listening.Start();
        }
        catch (SocketException e)
        {
            listening.Dispose();
            throw new IOException(
                $"Can't listen on {bind} for weight transfers: {e.Message}. "
                    + "Choose another address or port, or 0 for any free port.",
                e
            );
        }
        _ = new AcceptLoop("the port for weights", log).RunAsync(
            listening.AcceptSocketAsync,
            socket => _ = Task.Run(() => ProveAsync(socket)),
            stopping.Token
        );
        return listening;
    }

    /// <summary>Gives a connection a thread when it has proven that it may have weights; a stranger gets none.</summary>
    private async Task ProveAsync(Socket socket)
    {
        var remote = socket.RemoteEndPoint;
        using var visit = unproven.Enter(remote, socket.Dispose);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stopping.Token);
        deadline.CancelAfter(ProofTimeout);
        try
        {
            // Both ends prove the cluster key, where there is one.
            socket.NoDelay = true;
            Stream stream = key is null
                ? new NetworkStream(socket, ownsSocket: true)
                : await key.SecureAcceptedAsync(socket, deadline.Token);

            // A stranger's token, or one that comes too late, is answered by closing the connection.
            byte[] hello = new byte[TcpWire.HelloBytes];
            await stream.ReadExactlyAsync(hello, deadline.Token);
            if (!Admit(hello, new(socket, stream, $"a worker at {remote}")))
                socket.Dispose();
        }
        catch (Exception e) when (e is OperationCanceledException || IsConnectionFailure(e))
        {
            socket.Dispose();
            if (e is AuthenticationException)
                refusals.Add($"a connection from {remote} for weights was refused: it has not this cluster's key");
        }
    }

    /// <summary>Starts the thread that serves a connection whose token is an offer's.</summary>
    private bool Admit(byte[] bytes, Connection connection)
    {
        var hello = Hello.Read(bytes);
        ulong heldHash = hello.HeldHash;
        lock (gate)
            foreach (var offer in offers)
                if (CryptographicOperations.FixedTimeEquals(offer.Token, hello.Token))
                {
                    var thread = new Thread(() => Serve(connection, offer, heldHash))
                    {
                        IsBackground = true,
                        Name = "weights to " + connection.Receiver,
                    };
                    thread.Start();
                    offer.Connections.Add((connection.Socket, thread));
                    return true;
                }
        return false;
    }

    private void Serve(Connection connection, TcpOffer offer, ulong heldHash)
    {
        using (connection.Socket)
            try
            {
                using (connection.Stream)
                    Send(connection, offer, heldHash);
            }
            catch (Exception e) when (IsConnectionFailure(e))
            {
                // The worker has the other end, and reports the failure with its own reason over the control plane.
            }
    }

    private static bool IsConnectionFailure(Exception e) =>
        e
            is IOException
                or TimeoutException
                or SocketException
                or ObjectDisposedException
                or ArgumentOutOfRangeException
                or AuthenticationException;

    private void Send(Connection connection, TcpOffer offer, ulong heldHash)
    {
        var (socket, stream, receiver) = connection;
        socket.SendTimeout = socket.ReceiveTimeout = (int)timeout.TotalMilliseconds;
        bool sendsDeltas = heldHash != 0 && offer.Deltas?.BaseHash == heldHash;
        var chunks = new ChunkSender(stream, offer, sendsDeltas, receiver, n => Interlocked.Add(ref sentBytes, n));
        Span<byte> request = stackalloc byte[TcpWire.RequestBytes];
        while (true)
        {
            TcpWire.ReadExactly(stream, request, $"the next request of {receiver}", timeout);
            var wanted = ChunkRequest.Read(request);
            if (wanted.Count == 0)
                return;
            for (int index = wanted.First; index < wanted.First + wanted.Count; index++)
                chunks.Send(index);
        }
    }

    public void Dispose()
    {
        TcpOffer[] open;
        stopping.Cancel();
        lock (gate)
        {
            listener?.Dispose();
            open = [.. offers];
        }
        foreach (var offer in open)
            End(offer);
        foreach (var history in histories.Values)
            history.Dispose();
    }

    private sealed record Connection(Socket Socket, Stream Stream, string Receiver);
}
