using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Wire;
using SimpleR1.Models;
using SimpleR1.Tests.Server;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Cluster;

/// <summary>Each port of a cluster with a key, strangers at it, and a member that comes after them.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class StrangerTests : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60),
        Soon = TimeSpan.FromSeconds(5);

    private readonly ClusterKey key = ClusterKey.Parse(ClusterKey.NewText());
    private readonly ConcurrentQueue<string> log = [];
    private readonly Stack<IAsyncDisposable> started = [];
    private readonly Stack<IDisposable> held = [];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask DisposeAsync()
    {
        foreach (var one in held)
            one.Dispose();
        foreach (var one in started)
            await one.DisposeAsync();
    }

    /// <summary>A port, and what a member does there.</summary>
    private sealed record Port(IPEndPoint Endpoint, Func<Task> Join);

    private async Task<Port> StartAsync(string port) =>
        port switch
        {
            "weights" => Weights(),
            "admin" => await AdminAsync(),
            _ => await HeadAsync(silo: port == "silo"),
        };

    private async Task<Port> HeadAsync(bool silo)
    {
        var head = await ClusterHead.StartAsync(
            new()
            {
                Key = key,
                Address = IPAddress.Loopback,
                Log = log.Enqueue,
            },
            Cancel
        );
        started.Push(head);
        async Task JoinAsync()
        {
            var member = await ClusterSilo.StartAsync(
                new()
                {
                    ClusterId = head.Silo.ClusterId,
                    Name = new MemberName(MemberRole.Worker, "w", "x").ToString(),
                    Address = IPAddress.Loopback,
                    Primary = head.Silo.Endpoint,
                    Key = key,
                },
                Cancel
            );
            started.Push(member);
        }
        return silo
            ? new(head.Silo.Endpoint, JoinAsync)
            : new(new(head.Address, head.Port), () => ClusterClient.StatusAsync(new(head.Join, key), Cancel));
    }

    private Port Weights()
    {
        var source = Hold(SharedWeightMemory.Allocate(new WeightLayout(TinyModels.Config())));
        var destination = Hold(new FlatWeights(source.Layout, ScalarType.Float32, CPU));
        var sender = Hold(new TcpTransport(key: key) { Log = log.Enqueue });
        var receiver = Hold(new TcpTransport(key: key, connections: 2));
        var invitation = Hold(sender.Offer(source, BroadcastPlan.For(source, 1, 4096), ["w"])).Invitations[0];
        return new(
            IPEndPoint.Parse(invitation.Address.Split('/')[0]),
            () => Task.Run(() => receiver.Receive(invitation, destination, Patience, Cancel))
        );
    }

    private async Task<Port> AdminAsync()
    {
        var server = await TestServer.StartAsync(new() { WeightUpdates = true, ClusterKey = key });
        started.Push(server);
        var endpoint = new IPEndPoint(IPAddress.Loopback, server.Server.AdminAddress!.Port);
        async Task JoinAsync()
        {
            using var client = new TcpClient();
            await client.ConnectAsync(endpoint, Cancel);
            await using var tls = await key.SecureOpenedAsync(client.GetStream(), Cancel);
            await tls.WriteAsync("GET /health HTTP/1.1\r\nHost: a\r\n\r\n"u8.ToArray(), Cancel);
            byte[] answer = new byte["HTTP/1.1 200"u8.Length];
            await tls.ReadExactlyAsync(answer, Cancel);
            Assert.Equal("HTTP/1.1 200", Encoding.ASCII.GetString(answer));
        }
        return new(endpoint, JoinAsync);
    }

    private T Hold<T>(T one)
        where T : IDisposable
    {
        held.Push(one);
        return one;
    }

    [Theory]
    [InlineData("head")]
    [InlineData("silo")]
    [InlineData("weights")]
    [InlineData("admin")]
    public async Task No_url_of_a_stranger_s_certificate_is_fetched(string name)
    {
        var port = await StartAsync(name);
        using var urls = new Urls();
        using var certificate = urls.Certificate();
        using var client = new TcpClient();
        await client.ConnectAsync(port.Endpoint, Cancel);
        await using var tls = new SslStream(client.GetStream(), false, (_, _, _, _) => true);
        var options = new SslClientAuthenticationOptions
        {
            TargetHost = "x",
            ClientCertificateContext = SslStreamCertificateContext.Create(certificate, null, offline: true),
        };

        // TLS 1.3: a client sees at its first read that it was refused.
        int received = 0;
        var refused = await Record.ExceptionAsync(async () =>
        {
            await tls.AuthenticateAsClientAsync(options, Cancel);
            received = await tls.ReadAsync(new byte[1], Cancel).AsTask().WaitAsync(Patience, Cancel);
        });
        Assert.True(refused is null or IOException or AuthenticationException, $"{refused}");
        Assert.Equal(0, received);
        Assert.Equal(0, urls.Fetched);
        await port.Join().WaitAsync(Patience, Cancel);
    }

    [Fact]
    public async Task No_url_of_a_false_head_s_certificate_is_fetched()
    {
        using var urls = new Urls();
        using var certificate = urls.Certificate();
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var accepting = listener.AcceptTcpClientAsync(Cancel);
        using var client = new TcpClient();
        await client.ConnectAsync((IPEndPoint)listener.LocalEndpoint, Cancel);
        using var accepted = await accepting;
        await using var tls = new SslStream(accepted.GetStream());
        var context = SslStreamCertificateContext.Create(certificate, null, offline: true);
        var serving = tls.AuthenticateAsServerAsync(new() { ServerCertificateContext = context }, Cancel);
        await Assert.ThrowsAsync<AuthenticationException>(() => key.SecureOpenedAsync(client.GetStream(), Cancel));
        Assert.Equal(0, urls.Fetched);
        await Record.ExceptionAsync(() => serving);
    }

    [Theory]
    [InlineData("head")]
    [InlineData("silo")]
    [InlineData("weights")]
    [InlineData("admin")]
    public async Task Silent_connections_keep_no_member_out(string name)
    {
        const int Strangers = 300,
            Kept = 256;
        var port = await StartAsync(name);
        var strangers = new List<Socket>();
        for (int i = 0; i < Strangers; i++)
        {
            var stranger = Hold(new Socket(SocketType.Stream, ProtocolType.Tcp));
            await stranger.ConnectAsync(port.Endpoint, Cancel);
            strangers.Add(stranger);
        }

        // The oldest are hung up on long before their deadline.
        var clock = Stopwatch.StartNew();
        while (strangers.Count(IsOpen) > Kept)
        {
            Assert.True(clock.Elapsed < Soon, $"{strangers.Count(IsOpen)} strangers are still connected");
            await Task.Delay(10, Cancel);
        }
        Assert.Equal(Kept, strangers.Count(IsOpen));
        await port.Join().WaitAsync(Soon, Cancel);
    }

    private static bool IsOpen(Socket socket) => !(socket.Poll(0, SelectMode.SelectRead) && socket.Available == 0);

    [Theory]
    [InlineData("head")]
    [InlineData("weights")]
    public async Task Refused_strangers_are_counted_not_listed(string name)
    {
        const int Strangers = 40;
        var port = await StartAsync(name);
        for (int i = 0; i < Strangers; i++)
        {
            using var client = new TcpClient();
            await client.ConnectAsync(port.Endpoint, Cancel);
            await client.GetStream().WriteAsync("GET / HTTP/1.1\r\n"u8.ToArray(), Cancel);
        }

        var clock = Stopwatch.StartNew();
        while (log.Count < 2 && clock.Elapsed < Patience)
            await Task.Delay(10, Cancel);
        Assert.InRange(log.Count(line => line.Contains("refused")), 2, 10);
        Assert.Contains(log, line => line.Contains("more like it since the last line"));
    }

    /// <summary>Counts who fetches from it, and makes a certificate that asks for that.</summary>
    private sealed class Urls : IDisposable
    {
        private readonly TcpListener listener = new(IPAddress.Loopback, 0);
        private int fetched;

        public Urls()
        {
            listener.Start();
            _ = CountAsync();
        }

        public int Fetched => Volatile.Read(ref fetched);

        private async Task CountAsync()
        {
            try
            {
                while (true)
                {
                    using var client = await listener.AcceptSocketAsync(Cancel);
                    Interlocked.Increment(ref fetched);
                }
            }
            catch (Exception e) when (e is SocketException or InvalidOperationException or OperationCanceledException)
            {
                // disposed
            }
        }

        public X509Certificate2 Certificate()
        {
            string[] url = [$"http://{listener.LocalEndpoint}/latest/meta-data"];
            using var issuerKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            using var leafKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var issuer = new X500DistinguishedName("CN=nobody");
            var request = new CertificateRequest("CN=simple-r1-cluster", leafKey, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509AuthorityInformationAccessExtension(url, url));
            request.CertificateExtensions.Add(CertificateRevocationListBuilder.BuildCrlDistributionPointExtension(url));
            var generator = X509SignatureGenerator.CreateForECDsa(issuerKey);
            var today = DateTimeOffset.UtcNow;
            using var leaf = request.Create(issuer, generator, today.AddDays(-1), today.AddDays(1), [1, 2, 3]);
            return leaf.CopyWithPrivateKey(leafKey);
        }

        public void Dispose() => listener.Dispose();
    }
}
