using Orleans.Configuration;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Membership;

/// <summary>Puts each connection between silos inside TLS with the cluster key at both ends, below Orleans' own protocol.</summary>
internal static class SiloEncryption
{
    public static void Use(SiloConnectionOptions options, ClusterKey key)
    {
        options.ConfigureSiloInboundConnection(connection =>
            connection.Use(next => context => SecureTransport.RunAsync(context, next, key.SecureAcceptedAsync))
        );
        options.ConfigureSiloOutboundConnection(connection =>
            connection.Use(next => context => SecureTransport.RunAsync(context, next, key.SecureOpenedAsync))
        );
        options.ConfigureGatewayInboundConnection(connection =>
            connection.Use(next => context => SecureTransport.RunAsync(context, next, key.SecureAcceptedAsync))
        );
    }
}
