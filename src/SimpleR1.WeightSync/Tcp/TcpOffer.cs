using System.Net.Sockets;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>One offer of the trainer: the memory, and the connections that read it.</summary>
/// <param name="Address">The trainer's end point and the token.</param>
internal sealed record TcpOffer(
    nint Memory,
    BroadcastPlan Plan,
    WeightHistory.Deltas? Deltas,
    byte[] Token,
    string Address
)
{
    /// <summary>Under the sender's lock.</summary>
    public readonly List<(Socket Socket, Thread Thread)> Connections = [];

    /// <summary>Checksums of the whole chunks that were sent before; 0 for others.</summary>
    public readonly ulong[] Sums = new ulong[Plan.Chunks];
}
