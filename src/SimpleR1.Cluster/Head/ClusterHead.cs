using System.Diagnostics;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Wire;

namespace SimpleR1.Cluster.Head;

/// <summary>A cluster's meeting place: one port for all that join, the silo with the membership, and the list of members.</summary>
public sealed class ClusterHead : IAsyncDisposable
{
    private const int RedisPort = 6379;

    private readonly HeadOptions options;
    private readonly HeadServer server;
    private readonly long startedAt = Stopwatch.GetTimestamp();

    private ClusterHead(HeadOptions options, IPAddress address)
    {
        this.options = options;
        Address = address;
        server = HeadServer.Bind(
            new()
            {
                Endpoint = new(address, options.Port),
                Key = options.Key,
                Roster = Roster,
                Welcome = Welcome,
                Status = Status,
                Lost = OnLost,
                Log = options.Log,
            }
        );
    }

    internal Roster Roster { get; } = new();
    internal ClusterSilo Silo { get; private set; } = null!;
    public IPAddress Address { get; }
    public int Port => server.Endpoint.Port;

    /// <summary>HOST:PORT, for others to join.</summary>
    public string Join => new IPEndPoint(Address, Port).ToString();

    /// <exception cref="IOException">A port is taken; the message says which, and what to do.</exception>
    /// <exception cref="ArgumentException">An address other than the loopback interface's, without a key.</exception>
    public static async Task<ClusterHead> StartAsync(HeadOptions options, CancellationToken cancellation = default)
    {
        var address = options.Address ?? (options.Key is null ? IPAddress.Loopback : OwnAddress());
        if (options.Key is null && !IPAddress.IsLoopback(address))
            throw new ArgumentException(
                $"A head on {address} would let anyone in who can reach it: "
                    + "give it a key (simple-r1 key new), or leave it on the loopback interface"
            );

        var head = new ClusterHead(options, address);
        try
        {
            head.Silo = await ClusterSilo.StartAsync(head.SiloOptions(), cancellation);
            head.server.Open();
            return head;
        }
        catch
        {
            await head.server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Checks that a head could take its port now, before what takes long is started.</summary>
    /// <exception cref="IOException">The port is taken; the message says what to do.</exception>
    public static void RequireFreePort(int port) => HeadServer.Listen(new(IPAddress.Loopback, port)).Dispose();

    private SiloOptions SiloOptions() =>
        new()
        {
            // A membership in Redis outlives the head, and so does its name.
            ClusterId = "simple-r1-" + (options.Membership is null ? Guid.NewGuid().ToString("N")[..12] : options.Name),
            Name = "head",
            Address = Address,
            Port = options.Port == 0 ? 0 : options.Port + 1,
            Redis = Redis(),
            Key = options.Key,
            SiloLog = options.SiloLog,
            DeclaredDead = reason => options.Log("the head's own silo was declared dead: " + reason),
        };

    private WelcomeMessage Welcome() => new(null, Silo.ClusterId, Silo.Endpoint.ToString(), Redis());

    private string? Redis() => options.Membership is null ? null : RedisConnection(options.Membership);

    private void OnLost(HelloMessage member)
    {
        string role = member.Role.ToString().ToLowerInvariant();
        bool hasLeft = Silo.HasLeft(new(member.Role, member.Name, member.Instance));
        string end = hasLeft ? "has left" : "is gone";
        options.Log($"{role} {member.Name} ({member.Host}, process {member.ProcessId}) {end}");
        if (Silo.Find(new(member.Role, member.Name, member.Instance)) is { } silo)
            _ = Silo.DeclareDeadAsync(silo);
    }

    public ClusterStatus Status()
    {
        var (trainer, workers) = Roster.Entries();
        return new(Join, MembershipName(), Stopwatch.GetElapsedTime(startedAt).TotalSeconds, trainer, workers);
    }

    private string MembershipName()
    {
        if (options.Membership is null)
            return "embedded";

        var redis = new Uri(options.Membership);
        return $"redis at {redis.Host}:{PortOf(redis)}";
    }

    private static int PortOf(Uri redis) => redis.Port < 0 ? RedisPort : redis.Port;

    /// <summary>The address by which this machine sends to others (nothing is sent).</summary>
    private static IPAddress OwnAddress()
    {
        try
        {
            // 192.0.2.1 is reserved for documentation: only the choice of the route matters.
            using var probe = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            probe.Connect(IPAddress.Parse("192.0.2.1"), 9);
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
    /// <exception cref="ArgumentException">The text is no such address.</exception>
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

        string connection = $"{uri.Host}:{PortOf(uri)},abortConnect=false,connectTimeout=5000";
        string[] user = uri.UserInfo.Split(':', 2);
        if (user.Length == 2)
        {
            connection += $",password={Uri.UnescapeDataString(user[1])}";
            if (user[0].Length > 0)
                connection += $",user={user[0]}";
        }
        if (uri.AbsolutePath.Trim('/') is { Length: > 0 } database)
            connection += $",defaultDatabase={database}";

        return uri.Scheme == "rediss" ? connection + ",ssl=true" : connection;
    }

    /// <summary>Ends without leaving in order: workers of an embedded membership wait for the next head.</summary>
    public async ValueTask DisposeAsync()
    {
        await server.DisposeAsync();
        await Silo.DisposeAsync();
        await options.SiloLog.DisposeAsync();
    }
}
