using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using SimpleR1.Cluster.Membership;
using SimpleR1.Server.Limits;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Server;

/// <summary>
/// The port for those who have the cluster key. Both ends of each connection prove it in the TLS handshake, before a
/// byte of HTTP is read.
/// </summary>
internal sealed class AdminPort(ClusterKey key, HttpLimits limits, Action<string> log)
{
    // A limit of its own: strangers on one port must not use up the other port's connections.
    private readonly ConnectionLimit connections = new(limits.Connections, encrypted: true);

    /// <summary>Puts the handshake and the limit around what serves a connection.</summary>
    public ConnectionDelegate Wrap(ConnectionDelegate next)
    {
        Task ServeAsync(ConnectionContext proven)
        {
            proven.Features.Set(new Proof());
            return next(proven);
        }
        return connections.Wrap(connection =>
            SecureTransport.RunAsync(
                connection,
                ServeAsync,
                key.SecureAcceptedAsync,
                reason => LogRefusal(connection, reason)
            )
        );
    }

    /// <summary>
    /// Whether a request came in on a connection whose other end has the key. Nothing in the request itself can change
    /// that.
    /// </summary>
    public static bool Admits(HttpContext context) => context.Features.Get<Proof>() is not null;

    private void LogRefusal(ConnectionContext connection, string reason) =>
        log(
            $"a connection from {connection.RemoteEndPoint} to the admin port was refused: "
                + $"it did not prove that it has the cluster key ({reason})"
        );

    /// <summary>A feature of the connection, which only the handshake sets.</summary>
    private sealed class Proof;
}
