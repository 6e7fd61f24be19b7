using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace SimpleR1.Cluster;

/// <summary>The cluster's membership, in this process. Workers are found by the names that their silos have.</summary>
internal sealed class HeadSilo : IAsyncDisposable, ISiloStatusListener
{
    private readonly IHost host;
    private readonly TextWriter log;
    private readonly ISiloStatusOracle membership;
    private readonly SemaphoreSlim turn = new(1, 1);
    private readonly Lock gate = new();
    private readonly Dictionary<string, TaskCompletionSource<SiloAddress>> joining = [];
    private readonly Dictionary<SiloAddress, Action> leaving = [];

    private HeadSilo(IHost host, TextWriter log, string clusterId, IPEndPoint endpoint)
    {
        this.host = host;
        this.log = log;
        ClusterId = clusterId;
        Endpoint = endpoint;
        Grains = host.Services.GetRequiredService<IGrainFactory>();
        membership = host.Services.GetRequiredService<ISiloStatusOracle>();
        membership.SubscribeToSiloStatusEvents(this);
    }

    public string ClusterId { get; }
    public IPEndPoint Endpoint { get; }
    public IGrainFactory Grains { get; }

    /// <exception cref="IOException">The port is taken; says which, and what to do.</exception>
    public static async Task<HeadSilo> StartAsync(int port, string? logFolder, CancellationToken cancellation)
    {
        if (port != 0) RequireFree(port);
        string clusterId = "simple-r1-" + Guid.NewGuid().ToString("N")[..12];
        TextWriter log = logFolder is null ? TextWriter.Null
            : new LogFile(Path.Combine(Directory.CreateDirectory(logFolder).FullName, "cluster.log"));
        for (int attempt = 1; ; attempt++)
        {
            var endpoint = new IPEndPoint(IPAddress.Loopback, port != 0 ? port : Silo.FreePort());
            var host = Silo.Build(clusterId, "head", endpoint.Port, endpoint, log, _ => { });
            try
            {
                await host.StartAsync(cancellation);
                return new(host, log, clusterId, endpoint);
            }
            catch (Exception e)
            {
                host.Dispose();
                if (Silo.IsPortTaken(e) && port == 0 && attempt < 5) continue; // someone was quicker
                await log.DisposeAsync();
                throw Silo.IsPortTaken(e) ? Taken(endpoint.Port, e) : e;
            }
        }
    }

    /// <summary>Lets workers join one by one: the membership table makes those that write to it at the same time wait for seconds.</summary>
    /// <param name="join">Tells the worker to join.</param>
    /// <returns>The address of its silo.</returns>
    public async Task<SiloAddress> JoinAsync(string name, Action join, CancellationToken cancellation)
    {
        await turn.WaitAsync(cancellation);
        try
        {
            join();
            return await JoinedAsync(name).WaitAsync(cancellation);
        }
        finally { turn.Release(); }
    }

    private Task<SiloAddress> JoinedAsync(string name)
    {
        lock (gate)
        {
            if (!joining.TryGetValue(name, out var joined))
                joining.Add(name, joined = new(TaskCreationOptions.RunContinuationsAsynchronously));
            foreach (var (address, status) in membership.GetApproximateSiloStatuses(onlyActive: true)) Notice(address, status);
            return joined.Task;
        }
    }

    /// <summary>Tells the membership what is known already, so that nobody waits for the silo's probes to fail.</summary>
    public async Task DeclareDeadAsync(SiloAddress address)
    {
        lock (gate) leaving.Remove(address);
        await host.Services.GetRequiredService<IClusterMembershipService>().TryKill(address);
    }

    /// <summary>Calls back when membership declares the silo dead.</summary>
    public void OnDeath(SiloAddress address, Action action) { lock (gate) leaving[address] = action; }

    public void SiloStatusChangeNotification(SiloAddress address, SiloStatus status) { lock (gate) Notice(address, status); }

    private void Notice(SiloAddress address, SiloStatus status)
    {
        if (status == SiloStatus.Active && membership.TryGetSiloName(address, out string? name) && joining.TryGetValue(name, out var joined))
            joined.TrySetResult(address);
        if (status == SiloStatus.Dead && leaving.Remove(address, out var action)) _ = Task.Run(action);
    }

    private static void RequireFree(int port)
    {
        try
        {
            using var probe = new TcpListener(IPAddress.Loopback, port);
            probe.Start();
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.AddressAlreadyInUse or SocketError.AccessDenied) { throw Taken(port, e); }
    }

    private static IOException Taken(int port, Exception cause) =>
        new($"Port {port} of the cluster's head is taken by another process (127.0.0.1:{port}). Set the cluster's port to another one, or to 0 for any free port.", cause);

    public async ValueTask DisposeAsync()
    {
        membership.UnSubscribeFromSiloStatusEvents(this);
        // The workers are gone by now, and nothing is stored: an orderly farewell to them would only cost time.
        await host.StopAsync(new CancellationToken(canceled: true));
        if (host is IAsyncDisposable disposable) await disposable.DisposeAsync();
        else host.Dispose();
        await log.DisposeAsync();
    }
}
