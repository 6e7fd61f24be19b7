using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using SimpleR1.Server.Endpoints;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Metrics;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server;

/// <summary>An OpenAI-compatible API over a source of completions.</summary>
public sealed class HttpServer : IAsyncDisposable
{
    /// <summary>How long the last bytes of answers may take once everything has ended.</summary>
    private static readonly TimeSpan CloseTimeout = TimeSpan.FromSeconds(5);

    private readonly HttpOptions options;
    private readonly HttpExtension? extension;
    private readonly AdminPort? admin;
    private readonly Admission admission;
    private readonly WebApplication application;
    private readonly CancellationTokenSource stopped = new(); // ends what is still in flight
    private bool disposed;

    private HttpServer(ICompletionSource source, HttpOptions options, HttpExtension? extension)
    {
        this.options = options;
        this.extension = extension;

        // Limits, and what measures them.
        var limits = options.Limits;
        admission = new(() => source.MaxSequences + limits.Queue);
        var bodies = new BodyBudget((long)limits.BodiesMib << 20);
        var connections = new ConnectionLimit(limits.Connections, encrypted: options.Certificate is not null);
        var metrics = new HttpMetrics(source, admission, connections, bodies);

        // The ports.
        if (options.ClusterKey is { } clusterKey)
            admin = new(clusterKey, limits, options.Log);
        application = ServerApplication.Build(options, connections, admin);

        // The endpoints, within the pipeline.
        var endpoints = EndpointList.Create(
            new()
            {
                Source = source,
                Encoder = new(source, options.ChatTemplate, limits),
                Limits = limits,
                Bodies = bodies,
                Admission = admission,
                Metrics = metrics,
                Stopped = stopped.Token,
            }
        );
        application.Use(new RequestPipeline(source, options, metrics, endpoints, stopped.Token).WrapAsync);
        application.UseRouting();
        foreach (var endpoint in endpoints)
            application.MapMethods(endpoint.Route, [endpoint.Method], endpoint.Handler);
        extension?.Map(application, new(limits, bodies, AdminOnly: admin is not null));
    }

    /// <summary>Where the server listens.</summary>
    public Uri Address => new(Addresses.First());

    /// <summary>
    /// Where the server takes weights from those who have the cluster key, as a trainer wants it: vllm://host:port.
    /// Null without a key.
    /// </summary>
    public Uri? AdminAddress => admin is null ? null : new UriBuilder(Addresses.ElementAt(1)) { Scheme = "vllm" }.Uri;

    /// <summary>In the order of <see cref="ServerApplication.Build"/>.</summary>
    private ICollection<string> Addresses =>
        application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;

    /// <summary>Starts to listen.</summary>
    /// <param name="source">Must outlive the server.</param>
    /// <param name="extension">More endpoints; stopped with the server.</param>
    /// <exception cref="ArgumentException">Options are out of range, or would let anyone in.</exception>
    /// <exception cref="IOException">The port is taken.</exception>
    public static async Task<HttpServer> StartAsync(
        ICompletionSource source,
        HttpOptions options,
        HttpExtension? extension = null,
        CancellationToken cancellation = default
    )
    {
        options.Check();
        var server = new HttpServer(source, options, extension);
        try
        {
            await server.application.StartAsync(cancellation);
            return server;
        }
        catch (IOException e)
        {
            await server.application.DisposeAsync();
            string portOptions = server.admin is null ? "--port" : "--port or --admin-port";
            throw new IOException(
                $"can't listen on {options.Host}: {e.Message} Choose another {portOptions}, or 0 for any free one.",
                e
            );
        }
        catch
        {
            await server.application.DisposeAsync();
            throw;
        }
    }

    /// <summary>
    /// Refuses new requests, lets those in flight finish within the drain timeout, ends the rest with an error, and
    /// closes.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref disposed, true))
            return;
        if (extension is not null)
            await extension.StopAsync();

        try
        {
            await admission.CloseAsync().WaitAsync(options.DrainTimeout);
        }
        catch (TimeoutException)
        {
            options.Log(
                $"{admission.Inside} sequences were still running after the drain timeout of "
                    + $"{options.DrainTimeout.TotalSeconds:0} s; their requests end with an error"
            );
        }
        stopped.Cancel();

        using var closing = new CancellationTokenSource(CloseTimeout);
        await application.StopAsync(closing.Token);
        await application.DisposeAsync();
        stopped.Dispose();
    }
}
