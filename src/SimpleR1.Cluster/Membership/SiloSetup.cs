using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;
using StackExchange.Redis;

namespace SimpleR1.Cluster.Membership;

/// <summary>Builds silos from their options.</summary>
internal static class SiloSetup
{
    public static IHost Build(SiloOptions options, IPEndPoint endpoint)
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        // A worker's silo would warn of peers that end or hang. The head sees and judges these, and logs them in its own words.
        builder
            .Logging.SetMinimumLevel(options.IsHead ? LogLevel.Warning : LogLevel.Critical)
            .AddProvider(new LineLog(options.SiloLog));
        // Start-up notes without consequence: on server garbage collection, and on a timer that has not run yet.
        builder
            .Logging.AddFilter("Orleans.Runtime.Silo", LogLevel.Error)
            .AddFilter("Orleans.Runtime.Watchdog", LogLevel.Error);

        builder.UseOrleans(silo => Configure(silo, options, endpoint));
        options.Services(builder.Services);

        // Orleans' own handler would end the process in the middle of its work.
        builder.Services.RemoveAll<IFatalErrorHandler>();
        builder.Services.AddSingleton<IFatalErrorHandler>(new FatalError(options.DeclaredDead));
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>(); // Ctrl-C belongs to the program, not to the silo

        return builder.Build();
    }

    private static void Configure(ISiloBuilder silo, SiloOptions options, IPEndPoint endpoint)
    {
        if (options.Redis is { } redis)
            silo.UseRedisClustering(o => o.ConfigurationOptions = ConfigurationOptions.Parse(redis));
        else
            silo.UseDevelopmentClustering(options.Primary ?? endpoint);
        silo.ConfigureEndpoints(endpoint.Address, endpoint.Port, gatewayPort: 0);
        silo.Configure<Orleans.Configuration.ClusterOptions>(o =>
        {
            o.ClusterId = options.ClusterId;
            o.ServiceId = "simple-r1";
        });
        silo.Configure<Orleans.Configuration.SiloOptions>(o => o.SiloName = options.Name);
        if (options.Key is { } key)
            silo.Configure<SiloConnectionOptions>(o => SiloEncryption.Use(o, key));
        // Callers set deadlines by what they wait for; Orleans' own must not cut a long transfer short.
        silo.Configure<SiloMessagingOptions>(o => o.ResponseTimeout = TimeSpan.FromHours(1));
        silo.Configure<ClusterMembershipOptions>(o => SetLiveness(o, options.IsHead));
        silo.Services.AddPlacementDirector<PinToSilo, PinToSiloDirector>();
    }

    /// <summary>
    /// Lets the head declare silent members dead within seconds, and no other member. Workers would declare a trainer dead that
    /// was stopped and resumed (Ctrl-Z, a debugger), and the run would be lost. Its children's pipes, or its connection to the
    /// head, show when the trainer is truly gone.
    /// </summary>
    private static void SetLiveness(ClusterMembershipOptions o, bool isHead)
    {
        o.ProbeTimeout = TimeSpan.FromSeconds(1);
        o.LivenessEnabled = isHead;
        o.NumMissedProbesLimit = 5;
        o.NumVotesForDeathDeclaration = 1;
        o.TableRefreshTimeout = TimeSpan.FromSeconds(5);
        o.IAmAliveTablePublishTimeout = TimeSpan.FromSeconds(5);
    }

    /// <summary>
    /// A port of the interface that is free at this moment, as are the <paramref name="following"/> ones after it. It lies below
    /// the range that systems give to outgoing connections, which could take it before it is used.
    /// </summary>
    public static int FreePort(IPAddress address, int following = 0)
    {
        while (true)
        {
            int first = Random.Shared.Next(20_000, 32_000);
            if (Enumerable.Range(first, 1 + following).All(port => IsFree(new(address, port))))
                return first;
        }

        static bool IsFree(IPEndPoint endpoint)
        {
            using var listener = new TcpListener(endpoint);
            try
            {
                listener.Start();
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
            {
                return false;
            }
            return true;
        }
    }

    /// <summary>Whether the silo failed because it could not bind its port.</summary>
    public static bool IsPortTaken(Exception e)
    {
        for (Exception? cause = e; cause is not null; cause = cause.InnerException)
            if (cause is SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse })
                return true;

        return false;
    }

    private sealed class FatalError(Action<string> declaredDead) : IFatalErrorHandler
    {
        public bool IsUnexpected(Exception exception) => false;

        public void OnFatalException(object? sender, string? context, Exception? exception) =>
            Task.Run(() => declaredDead(context ?? exception?.Message ?? "a fatal error of the silo"));
    }

    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    /// <summary>Writes one line for each message: time, level, text.</summary>
    private sealed class LineLog(TextWriter output) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel level) => level is >= LogLevel.Warning and < LogLevel.None;

        public void Log<TState>(
            LogLevel level,
            EventId id,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> format
        )
        {
            if (!IsEnabled(level))
                return;

            string details = exception is null ? "" : " " + exception;
            string line = $"{DateTime.Now:HH:mm:ss.fff} {level}: {format(state, exception)}{details}";
            lock (output)
                output.WriteLine(line);
        }

        public void Dispose() { }
    }
}
