using System.Net;
using System.Net.Sockets;
using System.Text;

namespace SimpleR1.Bench.Sync;

/// <summary>
/// A line over loopback TCP from rank 0 to each worker, for calls of a few bytes and their answers. It stands in for
/// Ray's calls, which are slower.
/// </summary>
internal sealed class CallLine : IDisposable
{
    private const int MessageBytes = 128;

    private readonly List<(Socket Caller, Socket Called)> lines = [];

    /// <param name="members">Members of the group, rank 0 included.</param>
    public CallLine(int members)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        for (int i = 1; i < members; i++)
        {
            var caller = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            caller.Connect(listener.LocalEndpoint);
            var called = listener.AcceptSocket();
            called.NoDelay = true;
            lines.Add((caller, called));
        }
    }

    /// <summary>Rank 0 sends each worker a name and waits for the answers; the other ranks answer.</summary>
    public void Call(int rank, string name)
    {
        byte[] message = new byte[MessageBytes];
        Encoding.UTF8.GetBytes(name.AsSpan(0, Math.Min(MessageBytes - 8, name.Length)), message);
        if (rank > 0)
        {
            Read(lines[rank - 1].Called, message);
            lines[rank - 1].Called.Send(message);
            return;
        }

        foreach (var (caller, _) in lines)
            caller.Send(message);
        foreach (var (caller, _) in lines)
            Read(caller, message);
    }

    private static void Read(Socket socket, byte[] message)
    {
        for (int read = 0; read < message.Length; )
        {
            int count = socket.Receive(message.AsSpan(read));
            if (count == 0)
                throw new IOException("a call was cut off");
            read += count;
        }
    }

    public void Dispose()
    {
        foreach (var (caller, called) in lines)
        {
            caller.Dispose();
            called.Dispose();
        }
    }
}
