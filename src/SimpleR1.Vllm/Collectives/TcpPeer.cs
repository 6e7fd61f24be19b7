using System.Net.Sockets;

namespace SimpleR1.Vllm.Collectives;

/// <summary>A connection to another rank.</summary>
internal sealed record TcpPeer(Socket Socket, Stream Stream) : IDisposable
{
    public void Dispose()
    {
        Socket.Dispose(); // first: it wakes a thread that waits in the stream
        Stream.Dispose();
    }
}
