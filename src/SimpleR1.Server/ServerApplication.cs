using System.Security.Authentication;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using SimpleR1.Server.Limits;

namespace SimpleR1.Server;

/// <summary>
/// Builds the web application: Kestrel with the server's limits, on the API's port and the admin port.
/// </summary>
internal static class ServerApplication
{
    /// <returns>
    /// An application whose first address is the API's and whose second, with a key, is the admin port's.
    /// </returns>
    public static WebApplication Build(HttpOptions options, ConnectionLimit connections, AdminPort? admin)
    {
        var builder = WebApplication.CreateEmptyBuilder(new());
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder
            .WebHost.UseKestrelCore()
            .UseKestrelHttpsConfiguration()
            .ConfigureKestrel(kestrel =>
            {
                kestrel.AddServerHeader = false;
                SetLimits(kestrel.Limits, options.Limits);
                Listen(kestrel, options, connections);
                if (admin is not null)
                    ListenForAdmins(kestrel, options, admin);
            });
        return builder.Build();
    }

    private static void SetLimits(KestrelServerLimits kestrel, HttpLimits limits)
    {
        kestrel.MaxConcurrentConnections = null; // ConnectionLimit answers 429 instead
        kestrel.MaxRequestBodySize = limits.BodyBytes;
        kestrel.MaxRequestHeadersTotalSize = limits.HeaderKib << 10;
        kestrel.MaxRequestLineSize = limits.HeaderKib << 10;
        kestrel.RequestHeadersTimeout = TimeSpan.FromSeconds(limits.HeaderSeconds);
        kestrel.KeepAliveTimeout = TimeSpan.FromSeconds(limits.IdleSeconds);

        var rate = new MinDataRate(limits.BytesPerSecond, TimeSpan.FromSeconds(5));
        kestrel.MinRequestBodyDataRate = rate;
        kestrel.MinResponseDataRate = rate;
    }

    private static void Listen(KestrelServerOptions kestrel, HttpOptions options, ConnectionLimit connections) =>
        kestrel.Listen(
            options.Host,
            options.Port,
            listen =>
            {
                listen.Protocols = HttpProtocols.Http1;
                ((IConnectionBuilder)listen).Use(connections.Wrap);
                if (options.Certificate is { } certificate)
                    listen.UseHttps(HttpsOptions(certificate, options.Limits));
            }
        );

    private static HttpsConnectionAdapterOptions HttpsOptions(TlsCertificate certificate, HttpLimits limits) =>
        new()
        {
            ServerCertificate = certificate.Certificate,
            ServerCertificateChain = certificate.Chain,
            SslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
            HandshakeTimeout = TimeSpan.FromSeconds(limits.HeaderSeconds),
        };

    /// <summary>The admin port has its own TLS.</summary>
    private static void ListenForAdmins(KestrelServerOptions kestrel, HttpOptions options, AdminPort admin) =>
        kestrel.Listen(
            options.Host,
            options.AdminPort,
            listen =>
            {
                listen.Protocols = HttpProtocols.Http1;
                ((IConnectionBuilder)listen).Use(admin.Wrap);
            }
        );

    /// <summary>Ctrl-C belongs to the program, not to the server.</summary>
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
