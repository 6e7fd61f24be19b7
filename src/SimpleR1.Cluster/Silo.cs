using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace SimpleR1.Cluster;

/// <summary>How head and workers set up their silos: the same, but for who judges whom dead.</summary>
internal static class Silo
{
    /// <param name="port">Of this silo; its endpoint is on the loopback interface.</param>
    /// <param name="primary">The head's endpoint, where the membership lives.</param>
    /// <param name="log">Takes warnings and errors.</param>
    public static IHost Build(string clusterId, string name, int port, IPEndPoint primary, TextWriter log, Action<IServiceCollection> services)
    {
        bool isHead = primary.Port == port;
        var builder = Host.CreateEmptyApplicationBuilder(null);
        // What a worker's silo complains about is peers that end or hang, which the head sees, judges and tells in its own words.
        builder.Logging.SetMinimumLevel(isHead ? LogLevel.Warning : LogLevel.Critical).AddProvider(new LineLog(log));
        // Start-up notes without consequence: on server garbage collection, and on a timer that has not run yet.
        builder.Logging.AddFilter("Orleans.Runtime.Silo", LogLevel.Error).AddFilter("Orleans.Runtime.Watchdog", LogLevel.Error);
        builder.UseOrleans(silo =>
        {
            silo.UseDevelopmentClustering(primary).ConfigureEndpoints(IPAddress.Loopback, port, gatewayPort: 0);
            silo.Configure<Orleans.Configuration.ClusterOptions>(o => (o.ClusterId, o.ServiceId) = (clusterId, "simple-r1"));
            silo.Configure<SiloOptions>(o => o.SiloName = name);
            // Deadlines are the callers', by what they wait for; Orleans' own must not cut a long transfer short.
            silo.Configure<SiloMessagingOptions>(o => o.ResponseTimeout = TimeSpan.FromHours(1));
            silo.Configure<ClusterMembershipOptions>(o =>
            {
                // The head judges the workers, in seconds. Workers judge no one: after a stopped trainer goes on (Ctrl-Z, a debugger),
                // they would declare it dead, and the run would be lost. If it is truly gone, its children's pipes say so.
                o.ProbeTimeout = TimeSpan.FromSeconds(1);
                o.LivenessEnabled = isHead;
                o.NumMissedProbesLimit = 5;
                o.NumVotesForDeathDeclaration = 1;
                o.TableRefreshTimeout = TimeSpan.FromSeconds(5);
                o.IAmAliveTablePublishTimeout = TimeSpan.FromSeconds(5);
            });
            silo.Services.AddPlacementDirector<PinToSilo, PinToSiloDirector>();
        });
        services(builder.Services);
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>(); // Ctrl-C belongs to the program, not to the silo
        return builder.Build();
    }

    /// <summary>A port of the loopback interface that is free at this moment.</summary>
    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>The silo could not bind its port.</summary>
    public static bool IsPortTaken(Exception e)
    {
        for (Exception? cause = e; cause is not null; cause = cause.InnerException)
            if (cause is SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse }) return true;
        return false;
    }

    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;
        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }

    /// <summary>One line for each message: time, level, where from, what.</summary>
    private sealed class LineLog(TextWriter output) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;
        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;
        public bool IsEnabled(LogLevel level) => level is >= LogLevel.Warning and < LogLevel.None;

        public void Log<TState>(LogLevel level, EventId id, TState state, Exception? exception, Func<TState, Exception?, string> format)
        {
            if (!IsEnabled(level)) return;
            string line = $"{DateTime.Now:HH:mm:ss.fff} {level}: {format(state, exception)}{(exception is null ? "" : " " + exception)}";
            lock (output) output.WriteLine(line);
        }

        public void Dispose() { }
    }
}
