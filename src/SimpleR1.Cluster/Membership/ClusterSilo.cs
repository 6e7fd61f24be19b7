using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using SimpleR1.Cluster.Wire;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Membership;

/// <summary>How a silo is set up: alike in head, trainer and workers, except that only the head declares others dead.</summary>
internal sealed record SiloOptions
{
    public required string ClusterId { get; init; }

    /// <summary>The text of a <see cref="MemberName"/>, by which others know the member.</summary>
    public required string Name { get; init; }

    /// <summary>The address to listen on, by which others reach the silo.</summary>
    public required IPAddress Address { get; init; }

    /// <summary>0 is any free port.</summary>
    public int Port { get; init; }

    /// <summary>The head's silo, which has the membership table; null in the head itself.</summary>
    public IPEndPoint? Primary { get; init; }

    /// <summary>StackExchange.Redis's connection string, where Redis has the membership table.</summary>
    public string? Redis { get; init; }
    public ClusterKey? Key { get; init; }

    /// <summary>Takes the silo's warnings.</summary>
    public TextWriter SiloLog { get; init; } = TextWriter.Null;

    /// <summary>Called with the reason when membership declares this very silo dead.</summary>
    public Action<string> DeclaredDead { get; init; } = _ => { };

    /// <summary>Adds the services that the silo's grains need.</summary>
    public Action<IServiceCollection> Services { get; init; } = _ => { };

    public bool IsHead => Primary is null;
}

/// <summary>A silo's name: role, name, and the process of that name.</summary>
internal sealed record MemberName(MemberRole Role, string Name, string Instance)
{
    public override string ToString() => $"{Role}|{Name}|{Instance}";

    public static MemberName? Parse(string? text)
    {
        if (text?.Split('|') is not [var role, var name, var instance])
            return null;

        return Enum.TryParse<MemberRole>(role, out var parsed) ? new(parsed, name, instance) : null;
    }
}

/// <summary>A running silo: the membership, and calls to the grains of others. Silos' names tell which are workers.</summary>
internal sealed class ClusterSilo : IAsyncDisposable, ISiloStatusListener
{
    private const int Attempts = 5;

    private readonly IHost host;
    private readonly ISiloStatusOracle membership;
    private readonly Lock gate = new();
    private readonly Dictionary<SiloAddress, MemberName> seen = [];
    private readonly HashSet<SiloAddress> dead = [];
    private readonly Departures departures;
    private Action<SiloAddress, MemberName>? joined;
    private Action<SiloAddress>? gone;

    private ClusterSilo(IHost host, string clusterId, IPEndPoint endpoint)
    {
        this.host = host;
        ClusterId = clusterId;
        Endpoint = endpoint;
        Grains = host.Services.GetRequiredService<IGrainFactory>();
        membership = host.Services.GetRequiredService<ISiloStatusOracle>();
        departures = new(membership);
        membership.SubscribeToSiloStatusEvents(departures);
    }

    public string ClusterId { get; }
    public IPEndPoint Endpoint { get; }
    public IGrainFactory Grains { get; }

    public static async Task<ClusterSilo> StartAsync(SiloOptions options, CancellationToken cancellation)
    {
        for (int attempt = 1; ; attempt++)
        {
            int port = options.Port != 0 ? options.Port : SiloSetup.FreePort(options.Address);
            var endpoint = new IPEndPoint(options.Address, port);
            var host = SiloSetup.Build(options, endpoint);
            try
            {
                await host.StartAsync(cancellation);
                return new(host, options.ClusterId, endpoint);
            }
            catch (Exception e)
            {
                await StopAsync(host);
                if (!SiloSetup.IsPortTaken(e))
                    throw;
                if (options.Port == 0 && attempt < Attempts)
                    continue; // another process was quicker
                throw new IOException(
                    $"Port {endpoint.Port} for the cluster's silo is taken by another process ({endpoint}). "
                        + "Choose another one, or 0 for any free port.",
                    e
                );
            }
        }
    }

    /// <summary>
    /// Calls back once for each present and future member, and for each one that membership declares dead. Call it once.
    /// </summary>
    public void Watch(Action<SiloAddress, MemberName> joined, Action<SiloAddress> gone)
    {
        this.joined = joined;
        this.gone = gone;
        membership.SubscribeToSiloStatusEvents(this);
        foreach (var (address, status) in membership.GetApproximateSiloStatuses(onlyActive: true))
            SiloStatusChangeNotification(address, status);
    }

    /// <summary>No callback begins after this.</summary>
    public void Unwatch()
    {
        membership.UnSubscribeFromSiloStatusEvents(this);
        lock (gate)
        {
            joined = null;
            gone = null;
        }
    }

    /// <summary>
    /// Reports a death to the membership, so that no member waits for probes to fail. A process that still lives ends when it
    /// learns of this.
    /// </summary>
    public async Task DeclareDeadAsync(SiloAddress address)
    {
        try
        {
            await host.Services.GetRequiredService<IClusterMembershipService>().TryKill(address);
        }
        catch (Exception e)
            when (e is OrleansException or ObjectDisposedException or InvalidOperationException or TimeoutException)
        {
            // The head goes down too.
        }
    }

    /// <summary>True when a member has left in order, or is about to: it was not lost.</summary>
    public bool HasLeft(MemberName name) => departures.Contains(name);

    /// <summary>The address of the member of that name; null when this silo knows none.</summary>
    public SiloAddress? Find(MemberName name)
    {
        foreach (var (address, _) in membership.GetApproximateSiloStatuses(onlyActive: true))
            if (membership.TryGetSiloName(address, out string? found) && found == name.ToString())
                return address;
        return null;
    }

    public void SiloStatusChangeNotification(SiloAddress address, SiloStatus status)
    {
        lock (gate)
        {
            if (
                status == SiloStatus.Active
                && !seen.ContainsKey(address)
                && membership.TryGetSiloName(address, out string? name)
                && MemberName.Parse(name) is { } member
            )
            {
                seen.Add(address, member);
                var callback = joined; // as it is now: Unwatch may clear it
                _ = Task.Run(() => callback?.Invoke(address, member));
            }

            if (status == SiloStatus.Dead && seen.ContainsKey(address) && dead.Add(address))
            {
                var callback = gone;
                _ = Task.Run(() => callback?.Invoke(address));
            }
        }
    }

    /// <summary>Leaves in order: the other members know at once.</summary>
    public async Task LeaveAsync(TimeSpan timeout)
    {
        Unwatch();
        using var deadline = new CancellationTokenSource(timeout);
        try
        {
            await host.StopAsync(deadline.Token);
        }
        catch (Exception e) when (e is OrleansException or OperationCanceledException or TimeoutException)
        {
            // The head is gone itself.
        }
    }

    /// <summary>Ends without leaving in order: the cluster is gone, or all other members are.</summary>
    public ValueTask DisposeAsync()
    {
        Unwatch();
        return new(StopAsync(host));
    }

    private static async Task StopAsync(IHost host)
    {
        try
        {
            await host.StopAsync(new CancellationToken(canceled: true));
        }
        catch (Exception e)
            when (e is OrleansException or OperationCanceledException or TimeoutException or InvalidOperationException)
        {
            // The silo ends anyway, or never came up.
        }

        if (host is IAsyncDisposable disposable)
            await disposable.DisposeAsync();
        else
            host.Dispose();
    }
}
