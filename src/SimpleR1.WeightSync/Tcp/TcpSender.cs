using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using SimpleR1.Models;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// The trainer's end of <see cref="TcpTransport"/>: listens, and serves each connection on its own thread.
/// </summary>
internal sealed class TcpSender(IPEndPoint bind, TimeSpan timeout, ClusterKey? key, bool delta) : IDisposable
{
    private readonly Lock gate = new();
    private readonly List<TcpOffer> offers = [];
    private readonly Dictionary<ScalarType, WeightHistory> histories = []; // for deltas, by the receivers' type
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
        new Thread(() => Accept(listening)) { IsBackground = true, Name = "weight listener" }.Start();
        return listening;
    }

    private void Accept(TcpListener listening)
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = listening.AcceptSocket();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
            {
                return; // disposed
            }
            new Thread(() => Serve(socket))
            {
                IsBackground = true,
                Name = "weights to " + socket.RemoteEndPoint,
            }.Start();
        }
    }

    private void Serve(Socket socket)
    {
        using (socket)
            try
            {
                Serve(socket, $"a worker at {socket.RemoteEndPoint}");
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

    private void Serve(Socket socket, string receiver)
    {
        socket.NoDelay = true;
        socket.SendTimeout = socket.ReceiveTimeout = (int)timeout.TotalMilliseconds;
        using var plain = new NetworkStream(socket);

        // Both ends prove the cluster key, where there is one.
        Span<byte> first = stackalloc byte[1];
        if (key is not null)
            ClusterKey.RequireTls(first[..socket.Receive(first, SocketFlags.Peek)]);
        using Stream stream = key is null ? plain : key.SecureAccepted(plain);

        // A stranger's token, or one that comes too late, is answered by closing the connection.
        Span<byte> bytes = stackalloc byte[TcpWire.HelloBytes];
        TcpWire.ReadExactly(stream, bytes, $"the token of {receiver}", timeout);
        var hello = Hello.Read(bytes);
        if (Admit(hello.Token, socket) is not { } offer)
            return;

        bool sendsDeltas = hello.HeldHash != 0 && offer.Deltas?.BaseHash == hello.HeldHash;
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

    private TcpOffer? Admit(ReadOnlySpan<byte> token, Socket socket)
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

    public void Dispose()
    {
        TcpOffer[] open;
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
}
