using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using SimpleR1.Inference;
using SimpleR1.Server;
using SimpleR1.Tests.Server;
using SimpleR1.Tests.WeightSync;
using SimpleR1.Vllm;
using SimpleR1.Vllm.Collectives;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.Vllm;

/// <summary>A server with a cluster key: weights by the admin port only, from those who have the key.</summary>
public sealed class AdminPortTests
{
    private const string ApiKey = "admin-test-key";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static CancellationToken Token => TestContext.Current.CancellationToken;
    private static readonly GenerationRequest Request = new(
        "r",
        [1, 2, 3, 4, 5],
        new()
        {
            MaxTokens = 12,
            Samples = 2,
            Seed = 3,
            IgnoreEos = true,
        }
    );
    private static readonly string[] Paths =
    [
        "/init_weight_transfer_engine",
        "/start_weight_update",
        "/update_weights",
        "/finish_weight_update",
        "/pause",
        "/resume",
        "/is_paused",
        "/get_world_size",
        "/reset_prefix_cache",
    ];

    private static ClusterKey NewKey() => ClusterKey.Parse(ClusterKey.NewText());

    private static Task<TestServer> StartAsync(ClusterKey key) =>
        TestServer.StartAsync(
            new()
            {
                WeightUpdates = true,
                ClusterKey = key,
                ApiKeys = [ApiKey],
                DrainTimeout = TimeSpan.FromSeconds(5),
            }
        );

    private static string[] Lines(TestServer server)
    {
        lock (server.Log)
            return [.. server.Log];
    }

    [Fact]
    public async Task Trainer_with_the_key_samples_and_sends_weights_by_the_admin_port()
    {
        var key = NewKey();
        await using var server = await StartAsync(key);
        // There is no API key: the cluster key is stronger.
        using var workers = await VllmWorkers.StartAsync(
            new([server.Server.AdminAddress!]) { ClusterKey = key },
            Token
        );
        using var weights = TinyModels.Random(server.Source.Config, 7);
        var report = await workers.PushWeightsAsync(weights, 3, Token);
        Assert.Equal("vllm, tls", report.Transport);
        Assert.Equal(
            WeightHash.Compute(weights.Pointer, weights.ByteLength),
            WeightHash.Compute(server.Source.Weights.Pointer, server.Source.Weights.ByteLength)
        );
        var completions = new List<Completion>();
        await foreach (
            var completion in workers.GenerateAsync(
                [.. Enumerable.Range(0, 20).Select(i => Request with { Id = $"r{i}" })],
                NeverEnough.Token,
                Token
            )
        )
            completions.Add(completion);
        Assert.Equal(40, completions.Count);
        Assert.All(completions, c => Assert.All(c.WeightVersions, v => Assert.Equal(3, v)));
        Assert.Empty(Lines(server));
    }

    [Fact]
    public async Task What_is_said_on_the_admin_port_is_not_readable_on_the_way()
    {
        var key = NewKey();
        await using var server = await StartAsync(key);
        await using var tap = new Tap(new(IPAddress.Loopback, server.Server.AdminAddress!.Port));
        using (var collectives = new TcpCollectives(key: key))
        using (var trainer = new VllmConnection(new(new($"vllm://{tap.Endpoint}"), null, key), collectives, Patience))
        {
            await trainer.JoinAsync(IPAddress.Loopback, Token);
            using var weights = TinyModels.Random(server.Source.Config, 7);
            await trainer.PushWeightsAsync(weights, 1, Token);
        }
        byte[] heard = tap.Heard();
        Assert.True(heard.Length > 5000, $"only {heard.Length} bytes passed");
        foreach (string word in (string[])["HTTP", "weight", "127.0.0.1", "nccl"])
            Assert.True(heard.AsSpan().IndexOf(Encoding.ASCII.GetBytes(word)) < 0, $"'{word}' can be read on the way");
    }

    [Fact]
    public async Task Public_port_refuses_the_paths_of_weights_whatever_a_request_says()
    {
        await using var server = await StartAsync(NewKey());
        foreach (string path in Paths)
        {
            Assert.Equal(
                401,
                (
                    await TestServer.ErrorAsync(
                        await SendAsync(server, path, request => request.Headers.Authorization = null)
                    )
                ).Status
            );
            var (status, message, _, _) = await TestServer.ErrorAsync(
                await SendAsync(server, path, request => request.Headers.Host = server.Server.AdminAddress!.Authority)
            );
            Assert.Equal(403, status);
            Assert.Contains("admin port only", message);
        }
        Assert.Equal(HttpStatusCode.OK, (await SendAsync(server, "/v1/completions", _ => { })).StatusCode);
    }

    private static async Task<HttpResponseMessage> SendAsync(
        TestServer server,
        string path,
        Action<HttpRequestMessage> change
    )
    {
        using var request = new HttpRequestMessage(
            path is "/is_paused" or "/get_world_size" ? HttpMethod.Get : HttpMethod.Post,
            path
        );
        if (request.Method == HttpMethod.Post)
            request.Content = new StringContent("{\"prompt\":\"a\"}", Encoding.UTF8, "application/json");
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", ApiKey);
        change(request);
        return await server.Client.SendAsync(request, Token);
    }

    [Fact]
    public async Task Peers_without_the_key_are_refused_with_a_line_each_and_delay_nobody()
    {
        var key = NewKey();
        await using var server = await StartAsync(key);
        int port = server.Server.AdminAddress!.Port;
        // In the clear.
        using (var client = new HttpClient { BaseAddress = new($"http://127.0.0.1:{port}") })
            await Assert.ThrowsAsync<HttpRequestException>(() => client.GetAsync("/health", Token));
        await RefusedAsync(server, 1);
        // TLS with another key, and with no certificate at all.
        using (var plain = new TcpClient("127.0.0.1", port))
            await Assert.ThrowsAnyAsync<Exception>(() => NewKey().SecureOpenedAsync(plain.GetStream(), Token));
        await RefusedAsync(server, 2);
        using (var plain = new TcpClient("127.0.0.1", port))
        await using (var tls = new SslStream(plain.GetStream(), false, (_, _, _, _) => true))
        {
            await Assert.ThrowsAnyAsync<Exception>(async () =>
            {
                await tls.AuthenticateAsClientAsync("simple-r1-cluster");
                await tls.WriteAsync("GET /health HTTP/1.1\r\nHost: a\r\n\r\n"u8.ToArray(), Token);
                if (await tls.ReadAsync(new byte[1], Token) == 0)
                    throw new EndOfStreamException();
            });
        }
        await RefusedAsync(server, 3);

        var silent = new List<TcpClient>();
        for (int i = 0; i < 50; i++)
            silent.Add(new TcpClient("127.0.0.1", port)); // their handshakes have 10 s each
        var clock = Stopwatch.StartNew();
        using var workers = await VllmWorkers.StartAsync(
            new([server.Server.AdminAddress!]) { ClusterKey = key },
            Token
        );
        Assert.True(
            clock.Elapsed < Patience,
            $"joined after {clock.Elapsed.TotalSeconds:0.0} s: as if it had waited for the silent ones"
        );
        foreach (var one in silent)
            one.Dispose();
    }

    private static Task RefusedAsync(TestServer server, int times) =>
        TestServer.UntilAsync(
            () =>
                Lines(server)
                    .Count(line => line.Contains("did not prove that it has the cluster key", StringComparison.Ordinal))
                    == times
                && Lines(server).Length == times,
            () => $"{times} lines about refused connections in:\n{string.Join("\n", Lines(server))}"
        );

    [Fact]
    public async Task Trainers_whose_key_does_not_fit_say_what_to_do()
    {
        var key = NewKey();
        await using var keyed = await StartAsync(key);
        await using var open = await TestServer.StartAsync(new() { WeightUpdates = true });
        async Task<string> FailAsync(Uri address, ClusterKey? with) =>
            (
                await Assert.ThrowsAsync<IOException>(async () =>
                {
                    var servers = new VllmServers([address]) { ApiKey = ApiKey, ClusterKey = with };
                    using var workers = await VllmWorkers.StartAsync(servers, Token);
                })
            ).Message;
        Assert.Contains("this cluster's key", await FailAsync(keyed.Server.AdminAddress!, NewKey()));
        Assert.Contains("give the same --key", await FailAsync(keyed.Server.AdminAddress!, null));
        Assert.Contains("admin port only", await FailAsync(keyed.Server.Address, null));
        Assert.Contains(
            "http:// instead of vllm://",
            await FailAsync(new UriBuilder(open.Server.Address) { Scheme = "vllm" }.Uri, key)
        );
        // http:// is a server without a key.
        using var plain = await VllmWorkers.StartAsync(new([open.Server.Address]) { ClusterKey = key }, Token);
    }

    [Theory]
    [InlineData(false, false, 7000, "--admin-port is for those who have the cluster key")]
    [InlineData(true, false, 7000, "--admin-port is for those who have the cluster key")]
    [InlineData(false, true, 0, "--weight-updates")]
    [InlineData(true, true, 8000, "is the --port")]
    [InlineData(true, true, 70000, "0 (any free one) .. 65535, found 70000")]
    public void Options_that_protect_nothing_are_refused(bool updates, bool key, int port, string says) =>
        Assert.Contains(
            says,
            Assert
                .Throws<ArgumentException>(
                    new HttpOptions
                    {
                        WeightUpdates = updates,
                        ClusterKey = key ? NewKey() : null,
                        AdminPort = port,
                    }.Check
                )
                .Message
        );
}
