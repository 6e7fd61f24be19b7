using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster;

/// <summary>How to reach a head.</summary>
/// <param name="Join">HOST:PORT. The name is looked up at each attempt, because a restarted head may have another address.</param>
public sealed record HeadAddress(string Join, ClusterKey? Key)
{
    /// <exception cref="ArgumentException"><see cref="Join"/> is no HOST:PORT.</exception>
    internal (string Host, int Port) Parse()
    {
        int colon = Join.LastIndexOf(':');
        if (colon <= 0 || !int.TryParse(Join.AsSpan(colon + 1), out int port) || port is <= 0 or > ushort.MaxValue)
            throw new ArgumentException($"--join: expected HOST:PORT of a head, found '{Join}'");

        return (Join[..colon].Trim('[', ']'), port);
    }
}
