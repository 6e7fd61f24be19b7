using System.Diagnostics;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using SimpleR1.Cluster.Membership;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Head;

public sealed record HeadOptions
{
    /// <summary>The one port that others need to know; 0 is any free one. The silo takes the next one (or any free one with 0).</summary>
    public int Port { get; init; }

    /// <summary>This machine's address for the cluster; null is the loopback interface without a key, and the address of the default route with one.</summary>
    public IPAddress? Address { get; init; }

    /// <summary>What all of the cluster must have; without one everything stays on the loopback interface.</summary>
    public ClusterKey? Key { get; init; }

    /// <summary><c>redis://[:PASSWORD@]HOST[:PORT][/DATABASE]</c> keeps the membership there, so that it survives the head; null keeps it in the head.</summary>
    public string? Membership { get; init; }

    /// <summary>Tells clusters apart that share a Redis server.</summary>
    public string Name { get; init; } = "default";

    /// <summary>Takes the silo's warnings.</summary>
    public TextWriter Log { get; init; } = TextWriter.Null;

    /// <summary>One line about each thing a person should know.</summary>
    public Action<string> Say { get; init; } = _ => { };
}

/// <summary>A cluster's meeting place: one port for all that join, the silo with the membership, and the list of who is there.</summary>
public sealed class ClusterHead : IAsyncDisposable
{
    private readonly HeadServer server;
    private readonly string membership;
    private readonly long startedAt = Stopwatch.GetTimestamp();

    private ClusterHead(HeadOptions options, IPAddress address, Roster roster)
    {
        (Roster, Address, Log) = (roster, address, options.Log);
        membership =
            options.Membership is null ? "embedded"
            : new Uri(options.Membership) is { } redis ? $"redis at {redis.Host}:{(redis.Port < 0 ? 6379 : redis.Port)}"
            : "";
        server = HeadServer.Bind(
            new(address, options.Port),
            options.Key,
            roster,
            () =>
                new(
                    null,
                    Silo.ClusterId,
                    Silo.Endpoint.ToString(),
                    options.Membership is { } uri ? RedisConnection(uri) : null
                ),
            Status,
            lost =>
            {
                options.Say(
                    $"{lost.Role.ToString().ToLowerInvariant()} {lost.Name} ({lost.Host}, process {lost.ProcessId}) is gone"
                );
                if (Silo.Find(new(lost.Role, lost.Name, lost.Instance)) is { } silo)
                    _ = Silo.DeclareDeadAsync(silo);
            },
            options.Say
        );
    }

    internal Roster Roster { get; }
    internal ClusterSilo Silo { get; private set; } = null!;
    private TextWriter Log { get; }
    public IPAddress Address { get; }
    public int Port => server.Endpoint.Port;

    /// <summary>What others join.</summary>
    public string Join => new IPEndPoint(Address, Port).ToString();

    /// <exception cref="IOException">A port is taken; says which, and what to do.</exception>
    /// <exception cref="ArgumentException">An address other than the loopback interface's, without a key.</exception>
    public static async Task<ClusterHead> StartAsync(HeadOptions options, CancellationToken cancellation = default)
    {
        var address = options.Address ?? (options.Key is null ? IPAddress.Loopback : OwnAddress());
        if (options.Key is null && !IPAddress.IsLoopback(address))
            throw new ArgumentException(
                $"A head on {address} would let anyone in who can reach it: give it a key (simple-r1 key new), or leave it on the loopback interface"
            );
        var head = new ClusterHead(options, address, new());
        try
        {
            head.Silo = await ClusterSilo.StartAsync(
                new()
                {
                    ClusterId = options.Membership is null
                        ? "simple-r1-" + Guid.NewGuid().ToString("N")[..12]
                        : "simple-r1-" + options.Name,
                    Name = "head",
                    Address = address,
                    Port = options.Port == 0 ? 0 : options.Port + 1,
                    Redis = options.Membership is { } uri ? RedisConnection(uri) : null,
                    Key = options.Key,
                    Log = options.Log,
                    DeclaredDead = reason => options.Say("the head's own silo was declared dead: " + reason),
                },
                cancellation
            );
            head.server.Open();
            return head;
        }
        catch
        {
            await head.server.DisposeAsync();
            throw;
        }
    }

    public ClusterStatus Status()
    {
        var (trainer, workers) = Roster.Entries();
        return new(Join, membership, Stopwatch.GetElapsedTime(startedAt).TotalSeconds, trainer, workers);
    }

    /// <summary>The address by which this machine sends to others (nothing is sent).</summary>
    private static IPAddress OwnAddress()
    {
        try
        {
            using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            probe.Connect(IPAddress.Parse("192.0.2.1"), 9); // an address for documentation: only the choice of the route matters
            return ((IPEndPoint)probe.LocalEndPoint!).Address;
        }
        catch (SocketException)
        {
            return NetworkInterface
                    .GetAllNetworkInterfaces()
                    .Where(i => i.OperationalStatus == OperationalStatus.Up)
                    .SelectMany(i => i.GetIPProperties().UnicastAddresses)
                    .Select(u => u.Address)
                    .FirstOrDefault(a => a.AddressFamily == AddressFamily.InterNetwork && !IPAddress.IsLoopback(a))
                ?? throw new ArgumentException(
                    "This machine has no address besides the loopback interface's; name one with --address"
                );
        }
    }

    /// <summary>StackExchange.Redis's form of a redis:// address.</summary>
    /// <exception cref="ArgumentException">It is none.</exception>
    internal static string RedisConnection(string address)
    {
        if (
            !Uri.TryCreate(address, UriKind.Absolute, out var uri)
            || uri.Scheme is not ("redis" or "rediss")
            || uri.Host.Length == 0
        )
            throw new ArgumentException(
                $"--membership: expected redis://[:PASSWORD@]HOST[:PORT][/DATABASE], found '{address}'"
            );
        string[] user = uri.UserInfo.Split(':', 2);
        string connection = $"{uri.Host}:{(uri.Port < 0 ? 6379 : uri.Port)},abortConnect=false,connectTimeout=5000";
        if (user.Length == 2)
            connection +=
                $",password={Uri.UnescapeDataString(user[1])}" + (user[0].Length > 0 ? $",user={user[0]}" : "");
        if (uri.AbsolutePath.Trim('/') is { Length: > 0 } database)
            connection += $",defaultDatabase={database}";
        return uri.Scheme == "rediss" ? connection + ",ssl=true" : connection;
    }

    /// <summary>Without goodbye: workers of an embedded membership wait for the next head.</summary>
    public async ValueTask DisposeAsync()
    {
        await server.DisposeAsync();
        await Silo.DisposeAsync();
        await Log.DisposeAsync();
    }
}
