using System.Diagnostics;
using System.Security.Authentication;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using SimpleR1.Server.Api;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server;

/// <summary>An OpenAI-compatible API over a source of completions.</summary>
public sealed class HttpServer : IAsyncDisposable
{
    private readonly HttpOptions options;
    private readonly WebApplication application;
    private readonly Admission admission;
    private readonly BodyBudget bodies;
    private readonly ConnectionLimit connections;
    private readonly ApiKeys keys;
    private readonly HttpMetrics metrics;
    private readonly CancellationTokenSource stopped = new(); // what is still in flight ends
    private readonly ICompletionSource source;
    private readonly AdminPort? admin;
    private readonly HttpExtension? extension;
    private bool disposed,
        problemTold;

    private HttpServer(ICompletionSource source, HttpOptions options, HttpExtension? extension)
    {
        this.source = source;
        this.options = options;
        this.extension = extension;
        var limits = options.Limits;
        admission = new(() => source.MaxSequences + limits.Queue);
        bodies = new((long)limits.BodiesMib << 20);
        connections = new(limits.Connections, encrypted: options.Certificate is not null);
        keys = new(options.ApiKeys);
        metrics = new(source, admission, connections, bodies);
        if (options.ClusterKey is { } clusterKey)
            admin = new(clusterKey, limits, options.Log);
        application = Build();
        application.Use(AroundAsync);
        var encoder = new PromptEncoder(source, options.ChatTemplate, limits);
        Map(
            new(source, encoder, limits, bodies, admission, metrics, stopped.Token),
            new(source, encoder, limits, bodies, admission)
        );
    }

    /// <summary>Where it listens.</summary>
    public Uri Address => new(Addresses.First());

    /// <summary>Where it takes weights from those who have the cluster key, as a trainer wants it: vllm://host:port. Null without a key.</summary>
    public Uri? AdminAddress => admin is null ? null : new UriBuilder(Addresses.ElementAt(1)) { Scheme = "vllm" }.Uri;

    /// <summary>In the order of <see cref="Build"/>.</summary>
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
        }
        catch (Exception e)
        {
            await server.application.DisposeAsync();
            if (e is IOException)
                throw new IOException(
                    $"{options.Host} can't be listened on: {e.Message} Choose another --port{(server.admin is null ? "" : " or --admin-port")}, or 0 for any free one.",
                    e
                );
            throw;
        }
        return server;
    }

    /// <summary>Refuses new requests, lets those in flight finish for the drain timeout, ends the rest with an error, and closes.</summary>
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
                $"{admission.Inside} sequences were still running after the drain timeout of {options.DrainTimeout.TotalSeconds:0} s; their requests end with an error"
            );
        }
        stopped.Cancel();
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(5)); // for the last bytes
        await application.StopAsync(patience.Token);
        await application.DisposeAsync();
        stopped.Dispose();
    }

    private WebApplication Build()
    {
        var limits = options.Limits;
        var builder = WebApplication.CreateEmptyBuilder(new());
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder
            .WebHost.UseKestrelCore()
            .UseKestrelHttpsConfiguration()
            .ConfigureKestrel(kestrel =>
            {
                kestrel.AddServerHeader = false;
                kestrel.Limits.MaxConcurrentConnections = null; // ConnectionLimit says why
                kestrel.Limits.MaxRequestBodySize = (long)limits.BodyKib << 10;
                kestrel.Limits.MaxRequestHeadersTotalSize = limits.HeaderKib << 10;
                kestrel.Limits.MaxRequestLineSize = limits.HeaderKib << 10;
                kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(limits.HeaderSeconds);
                kestrel.Limits.KeepAliveTimeout = TimeSpan.FromSeconds(limits.IdleSeconds);
                kestrel.Limits.MinRequestBodyDataRate = kestrel.Limits.MinResponseDataRate = new(
                    limits.BytesPerSecond,
                    TimeSpan.FromSeconds(5)
                );
                Listen(kestrel, options.Port, connections.Around, options.Certificate);
                if (admin is not null)
                    Listen(kestrel, options.AdminPort, admin.Around); // has its own TLS
            });
        return builder.Build();
    }

    private void Listen(
        KestrelServerOptions kestrel,
        int port,
        Func<ConnectionDelegate, ConnectionDelegate> around,
        TlsCertificate? certificate = null
    ) =>
        kestrel.Listen(
            options.Host,
            port,
            listen =>
            {
                listen.Protocols = HttpProtocols.Http1;
                ((IConnectionBuilder)listen).Use(around);
                if (certificate is null)
                    return;
                listen.UseHttps(
                    new HttpsConnectionAdapterOptions
                    {
                        ServerCertificate = certificate.Certificate,
                        ServerCertificateChain = certificate.Chain,
                        SslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
                        HandshakeTimeout = TimeSpan.FromSeconds(options.Limits.HeaderSeconds),
                    }
                );
            }
        );

    private void Map(GenerationEndpoint generation, SmallEndpoints small)
    {
        application.UseRouting();
        application.MapPost("/v1/completions", context => generation.AnswerAsync(context, chat: false));
        application.MapPost("/v1/chat/completions", context => generation.AnswerAsync(context, chat: true));
        application.MapGet("/v1/models", small.ModelsAsync);
        application.MapGet(
            "/v1/models/{**name}",
            context => small.ModelAsync(context, (string)context.Request.RouteValues["name"]!)
        );
        application.MapPost("/tokenize", small.TokenizeAsync);
        application.MapPost("/detokenize", small.DetokenizeAsync);
        application.MapGet("/health", small.HealthAsync);
        application.MapGet(
            "/metrics",
            context =>
            {
                context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
                return context.Response.Body.WriteAsync(Encoding.UTF8.GetBytes(metrics.Text())).AsTask();
            }
        );
        extension?.Map(application, new(options.Limits, bodies, AdminOnly: admin is not null));
    }

    /// <summary>Around every request: who asks, what goes wrong, and how long it took.</summary>
    private async Task AroundAsync(HttpContext context, RequestDelegate next)
    {
        long start = Stopwatch.GetTimestamp();
        int status = 0;
        try
        {
            if (context.Request.Path != "/health" && !AdminPort.Admits(context))
                keys.Check(context.Request); // probes have no key
            await next(context);
            if (!context.Response.HasStarted && context.Response is { StatusCode: >= 400, ContentLength: null })
                throw Unanswered(context);
        }
        catch (Exception e)
            when (context.RequestAborted.IsCancellationRequested && e is OperationCanceledException or IOException)
        {
            status = 499;
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            await Told(e).WriteAsync(context);
        }
        catch (Exception e)
        {
            if (e is not OperationCanceledException)
                options.Log($"an answer to {context.Request.Path} broke off: {e}");
            context.Abort(); // so that nobody takes a part for the whole
        }
        string? problem = source.Problem;
        if (problem is not null && !Interlocked.Exchange(ref problemTold, true))
            options.Log($"nothing can be completed: {problem}");
        if (problem is null)
            problemTold = false;
        string route = (context.GetEndpoint() as RouteEndpoint)?.RoutePattern.RawText ?? "other";
        metrics.Count(
            route,
            status != 0 ? status : context.Response.StatusCode,
            Stopwatch.GetElapsedTime(start).TotalSeconds
        );
    }

    private ApiException Told(Exception e)
    {
        switch (e)
        {
            case ApiException known:
                return known;
            case Microsoft.AspNetCore.Http.BadHttpRequestException { StatusCode: StatusCodes.Status413PayloadTooLarge }:
                return RequestBody.TooLarge(options.Limits);
            case Microsoft.AspNetCore.Http.BadHttpRequestException bad:
                return new(bad.StatusCode, bad.Message);
            case IOException unreadable:
                return new(StatusCodes.Status400BadRequest, $"The body can't be read: {unreadable.Message}"); // a chunk of impossible size, for one
            case OperationCanceledException when stopped.IsCancellationRequested:
                return Admission.Stopping();
            default:
                options.Log($"a request failed; this looks like a bug in SimpleR1: {e}");
                return new(
                    StatusCodes.Status500InternalServerError,
                    "The server failed at this request; its log says how"
                );
        }
    }

    private static ApiException Unanswered(HttpContext context) =>
        context.Response.StatusCode switch
        {
            StatusCodes.Status404NotFound => new(
                404,
                $"There is nothing at {Shown.Short(context.Request.Path)}; there are /v1/completions, /v1/chat/completions, /v1/models, /tokenize, /detokenize, /health and /metrics"
            ),
            StatusCodes.Status405MethodNotAllowed => new(
                405,
                $"{context.Request.Path} does not take {Shown.Short(context.Request.Method)}, but {context.Response.Headers.Allow}"
            ),
            var status => new(status, $"The server answers {status}"),
        };

    /// <summary>Ctrl-C belongs to the program, not to the server.</summary>
    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
