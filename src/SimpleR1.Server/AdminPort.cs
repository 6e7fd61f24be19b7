using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using SimpleR1.Cluster.Membership;
using SimpleR1.Server.Limits;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Server;

/// <summary>The port for those who have the cluster key: both ends of each connection prove it in the TLS handshake, before a byte of HTTP is read.</summary>
internal sealed class AdminPort(ClusterKey key, HttpLimits limits, Action<string> log)
{
    // Of its own: strangers on one port must not use up the other's connections.
    private readonly ConnectionLimit connections = new(limits.Connections, encrypted: true);

    public ConnectionDelegate Around(ConnectionDelegate next) =>
        connections.Around(connection =>
            SecureTransport.RunAsync(
                connection,
                proven =>
                {
                    proven.Features.Set(new Proof());
                    return next(proven);
                },
                key.SecureAcceptedAsync,
                why =>
                    log(
                        $"a connection from {connection.RemoteEndPoint} to the admin port was refused: it did not prove that it has the cluster key ({why})"
                    )
            )
        );

    /// <summary>Whether a request came in by a connection whose other end has the key. Nothing that the request says has a part in it.</summary>
    public static bool Admits(HttpContext context) => context.Features.Get<Proof>() is not null;

    /// <summary>A feature of the connection, which only the handshake sets.</summary>
    private sealed class Proof;
}
