using System.Net.Sockets;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Vllm.Collectives;

/// <summary>A group over TCP: rank 0 has a connection to each other rank; each other rank has one, to rank 0.</summary>
internal sealed unsafe class TcpGroup(bool leads, TimeSpan timeout) : IWeightGroup
{
    private const int PieceBytes = 1 << 20;

    private readonly List<TcpPeer> peers = [];

    public CudaDevice? Device => null;
    public int Count => peers.Count;

    public void Add(TcpPeer peer)
    {
        int milliseconds = (int)Math.Min(int.MaxValue, timeout.TotalMilliseconds);
        peer.Socket.NoDelay = true;
        peer.Socket.SendTimeout = milliseconds;
        peer.Socket.ReceiveTimeout = milliseconds;
        peers.Add(peer);
    }

    /// <summary>Rank 0's announcement that all have joined.</summary>
    public void AnnounceComplete()
    {
        byte complete = 1;
        Send((nint)(&complete), 1);
    }

    /// <summary>Shows the token to rank 0, and waits until all have joined.</summary>
    public void Show(byte[] token)
    {
        fixed (byte* memory = token)
            Send((nint)memory, token.Length);
        byte complete = 0;
        Receive((nint)(&complete), 1);
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
                int count = (int)Math.Min(PieceBytes, bytes - sent);
                try
                {
                    peer.Stream.Write(new ReadOnlySpan<byte>((byte*)memory + sent, count));
                }
                catch (IOException e)
                {
                    throw Failure(e, "take", sent, bytes);
                }
                sent += count;
            }
    }

    private void Receive(nint memory, long bytes)
    {
        for (long read = 0; read < bytes; )
        {
            int most = (int)Math.Min(PieceBytes, bytes - read);
            int count;
            try
            {
                count = peers[0].Stream.Read(new Span<byte>((byte*)memory + read, most));
            }
            catch (IOException e)
            {
                throw Failure(e, "send", read, bytes);
            }
            if (count == 0)
                throw new IOException($"rank 0 closed the connection after {read} of {bytes} bytes");
            read += count;
        }
    }

    private Exception Failure(IOException e, string verb, long done, long bytes) =>
        e.InnerException is SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock }
            ? new TimeoutException(
                $"waited {timeout.TotalSeconds:0.#} s for the other end to {verb} more than {done} of {bytes} bytes",
                e
            )
            : new IOException($"the connection broke after {done} of {bytes} bytes: {e.Message}", e);

    public void Dispose()
    {
        foreach (var peer in peers)
            peer.Dispose();
    }
}
