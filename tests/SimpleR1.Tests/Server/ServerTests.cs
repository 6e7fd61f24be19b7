using System.Net;
using System.Net.Http.Headers;
using SimpleR1.Server;
using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>Keys, the smaller endpoints, clients that leave, and how the server stops.</summary>
public sealed class ServerTests
{
    private const string Path = "/v1/completions",
        Endless = "{\"prompt\":\"a\",\"max_tokens\":4000,\"ignore_eos\":true,\"stream\":true}";
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Every_path_but_health_wants_a_key()
    {
        await using var server = await TestServer.StartAsync(new() { ApiKeys = ["first-key", "second-key"] });
        async Task<int> Get(string path, string? authorization)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, path);
            if (authorization is not null)
                request.Headers.TryAddWithoutValidation("Authorization", authorization);
            using var response = await server.Client.SendAsync(request, Token);
            if (response.StatusCode == HttpStatusCode.Unauthorized)
                Assert.Equal("Bearer", response.Headers.WwwAuthenticate.Single().Scheme);
            return (int)response.StatusCode;
        }
        foreach (string path in (string[])["/v1/models", "/metrics", "/nothing"])
        foreach (
            string? wrong in (string?[])
                [null, "Bearer first-kez", "Bearer ", "Bearer first-key2", "Basic first-key", "first-key"]
        )
            Assert.Equal(401, await Get(path, wrong));
        Assert.Equal(200, await Get("/health", null));
        Assert.Equal(200, await Get("/v1/models", "Bearer first-key"));
        Assert.Equal(200, await Get("/metrics", "bearer second-key"));
        Assert.Equal(404, await Get("/nothing", "Bearer second-key"));
        Assert.Equal(401, (await server.FailAsync(Path, "{\"prompt\":\"a\"}")).Status);
        server.Client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", "second-key");
        await server.CompleteAsync("\"prompt\":\"a\"");
    }

    [
        Theory,
        InlineData("evil.example", 403),
        InlineData("localhost:80", 200),
        InlineData("127.0.0.1", 200),
        InlineData("[::1]:8000", 200)
    ]
    public async Task Without_keys_only_this_machines_names_are_answered(string host, int status)
    {
        await using var server = await TestServer.StartAsync();
        using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/models") { Headers = { Host = host } };
        Assert.Equal(status, (int)(await server.Client.SendAsync(request, Token)).StatusCode);
    }

    [
        Theory,
        InlineData("https://evil.example", 403),
        InlineData("null", 403),
        InlineData("http://127.0.0.1:1", 403),
        InlineData("http://{0}", 200)
    ]
    public async Task Without_keys_no_other_sites_pages_are_answered(string origin, int status)
    {
        await using var server = await TestServer.StartAsync(new() { WeightUpdates = true });
        using var request = new HttpRequestMessage(HttpMethod.Post, "/pause?mode=keep");
        request.Headers.TryAddWithoutValidation(
            "Origin",
            string.Format(System.Globalization.CultureInfo.InvariantCulture, origin, server.Server.Address.Authority)
        );
        Assert.Equal(status, (int)(await server.Client.SendAsync(request, Token)).StatusCode);
    }

    [Fact]
    public async Task Tokenize_and_detokenize_are_the_tokenizers()
    {
        await using var server = await TestServer.StartAsync();
        const string text = "Ünïcode 🦙 <think>";
        int[] expected = TestServer.Tokenizer.EncodePrompt(text);
        var tokens = await server.PostAsync("/tokenize", $"{{\"model\":\"tiny\",\"prompt\":\"{text}\"}}");
        Assert.Equal(expected, tokens.GetProperty("tokens").EnumerateArray().Select(t => t.GetInt32()));
        Assert.Equal(
            (expected.Length, 4096),
            (tokens.GetProperty("count").GetInt32(), tokens.GetProperty("max_model_len").GetInt32())
        );
        Assert.Equal(
            text,
            (await server.PostAsync("/detokenize", $"{{\"tokens\":[{string.Join(',', expected)}]}}"))
                .GetProperty("prompt")
                .GetString()
        );
        Assert.Equal((400, "tokens"), Short(await server.FailAsync("/detokenize", "{\"tokens\":[261]}")));
        Assert.Equal((400, "prompt"), Short(await server.FailAsync("/tokenize", "{}")));
        Assert.Equal(
            (400, "prompt"),
            Short(
                await server.FailAsync(
                    "/tokenize",
                    "{\"prompt\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}"
                )
            )
        );
        static (int, string?) Short((int Status, string, string? Param, HttpResponseMessage) e) => (e.Status, e.Param);
    }

    [Fact]
    public async Task Unknown_paths_and_methods_are_errors_that_say_what_there_is()
    {
        await using var server = await TestServer.StartAsync();
        var (status, message, _, _) = await server.FailAsync("/v2/completions", "{}");
        Assert.Equal(404, status);
        Assert.EndsWith(
            "there are /v1/completions, /v1/chat/completions, /v1/models, /tokenize, /detokenize, /health and /metrics",
            message
        );
        using var response = await server.Client.GetAsync(Path, Token);
        Assert.Equal(405, (await TestServer.ErrorAsync(response)).Status);
        Assert.Equal(["POST"], response.Content.Headers.Allow);
        Assert.Equal(404, (int)(await server.Client.GetAsync("/v1/models/other", Token)).StatusCode);
    }

    [Fact]
    public async Task Metrics_count_what_happened()
    {
        await using var server = await TestServer.StartAsync();
        await server.CompleteAsync(
            "\"prompt\":\"the same beginning, long enough for blocks\",\"max_tokens\":5,\"ignore_eos\":true"
        );
        await server.CompleteAsync(
            "\"prompt\":\"the same beginning, long enough for blocks\",\"max_tokens\":5,\"ignore_eos\":true"
        );
        await server.FailAsync(Path, "{}");
        await TestServer.UntilAsync(() => server.Source.Statistics.FinishedSequences == 2, () => "two sequences");
        string[] lines = (await server.Client.GetStringAsync("/metrics", Token)).Split('\n');
        var values = MetricValues(lines);
        Assert.Equal(10, values["generated_tokens_total"]);
        Assert.Equal(32, values["prefix_hit_tokens_total"]);
        Assert.Equal(
            (0, 0, 0),
            (values["running_sequences"], values["kv_blocks_in_use"], values["admitted_sequences"])
        );
        Assert.True(values["steps_total"] >= 10 && values["step_seconds_total"] > 0 && values["kv_blocks"] > 0);
        Assert.Equal(2, values["requests_total{route=\"/v1/completions\",status=\"200\"}"]);
        Assert.Equal(1, values["requests_total{route=\"/v1/completions\",status=\"400\"}"]);
        Assert.Equal(3, values["request_seconds_count{route=\"/v1/completions\"}"]);
        Assert.Equal(3, values["request_seconds_bucket{route=\"/v1/completions\",le=\"+Inf\"}"]);
        Assert.Equal(2, values["first_token_seconds_count"]);
        Assert.All(
            lines.Where(l => l.StartsWith("# TYPE ", StringComparison.Ordinal)),
            l => Assert.Matches("^# TYPE simple_r1_[a-z_]+ (counter|gauge|histogram)$", l)
        );
    }

    private static Dictionary<string, double> MetricValues(string[] lines) =>
        lines
            .Where(l => l.Length > 0 && l[0] != '#')
            .Select(l => l.Split(' '))
            .ToDictionary(
                p => p[0]["simple_r1_".Length..],
                p => double.Parse(p[1], System.Globalization.CultureInfo.InvariantCulture)
            );

    [Theory, InlineData(false), InlineData(true)]
    public async Task Client_that_leaves_aborts_its_sequences(bool stream)
    {
        await using var server = await TestServer.StartAsync();
        using var leaving = CancellationTokenSource.CreateLinkedTokenSource(Token);
        using var content = new StringContent(
            stream ? Endless : Endless.Replace("true}", "false,\"n\":3}", StringComparison.Ordinal),
            MediaTypeHeaderValue.Parse("application/json")
        );
        using var request = new HttpRequestMessage(HttpMethod.Post, Path) { Content = content };
        var call = server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, leaving.Token);
        if (stream)
        {
            using var response = await call;
            await using var body = await response.Content.ReadAsStreamAsync(Token);
            Assert.True(await body.ReadAsync(new byte[100], Token) > 0);
        }
        else
        {
            await TestServer.UntilAsync(() => server.Source.Statistics.Running == 3, () => "three sequences to run");
            leaving.Cancel();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
        }
        await TestServer.UntilAsync(() => server.Source.Statistics.FinishedSequences > 0, () => "the abort");
        await server.IdleAsync();
        Assert.True(server.Source.Statistics.SampledTokens < 4000);
        await server.MetricsSayAsync("simple_r1_requests_total{route=\"/v1/completions\",status=\"499\"} 1");
    }

    [Fact]
    public async Task Stopping_lets_requests_finish()
    {
        var server = await TestServer.StartAsync(new() { DrainTimeout = TestServer.Patience });
        var running = server.SendAsync(
            Path,
            Endless.Replace("4000", "1000", StringComparison.Ordinal),
            HttpCompletionOption.ResponseHeadersRead
        );
        using var response = await running;
        var stopping = server.Server.DisposeAsync().AsTask();
        await TestServer.UntilAsync(async () => await HealthAsync() is 503 or 0, () => "the server to refuse");
        Assert.EndsWith("data: [DONE]\n\n", await response.Content.ReadAsStringAsync(Token));
        await stopping;
        await server.DisposeAsync();

        async Task<int> HealthAsync() // 0 when the server has stopped listening
        {
            try
            {
                return (int)(await server.Client.GetAsync("/health", Token)).StatusCode;
            }
            catch (HttpRequestException)
            {
                return 0;
            }
        }
    }

    [Fact]
    public async Task Stopping_ends_what_outlasts_the_drain_timeout_with_an_error()
    {
        var server = await TestServer.StartAsync(new() { DrainTimeout = TimeSpan.Zero });
        using var streaming = await server.SendAsync(Path, Endless, HttpCompletionOption.ResponseHeadersRead);
        var whole = server.SendAsync(Path, Endless.Replace(",\"stream\":true", "", StringComparison.Ordinal));
        await TestServer.UntilAsync(() => server.Source.Statistics.Running == 2, () => "two sequences to run");
        await server.Server.DisposeAsync();
        string text = await streaming.Content.ReadAsStringAsync(Token);
        Assert.Contains("This server is stopping", text[text.LastIndexOf("data: ", StringComparison.Ordinal)..]);
        var (status, message, _, _) = await TestServer.ErrorAsync(await whole);
        Assert.Equal(503, status);
        Assert.Contains("stopping", message);
        await server.IdleAsync();
        Assert.Contains(server.Log, line => line.Contains("2 sequences were still running", StringComparison.Ordinal));
        await server.DisposeAsync();
    }

    [Fact]
    public async Task Taken_port_is_named()
    {
        await using var server = await TestServer.StartAsync();
        var again = new HttpOptions { Port = server.Server.Address.Port };
        string message = (
            await Assert.ThrowsAsync<IOException>(() =>
                HttpServer.StartAsync(server.Source, again, cancellation: Token)
            )
        ).Message;
        Assert.Contains($"127.0.0.1:{again.Port}", message);
        Assert.Contains("--port", message);
    }

    [Fact]
    public async Task Engine_that_failed_is_a_503_with_its_reason()
    {
        await using var server = await TestServer.StartAsync();
        await server.Source.BetweenStepsAsync(engine =>
        {
            using var none = TorchSharp.torch.no_grad();
            return engine.Weights.Flat.fill_(float.NaN).numel();
        });
        var (status, message, _, _) = await server.FailAsync(Path, "{\"prompt\":\"a\"}");
        Assert.Equal(503, status);
        Assert.Contains("not finite", message);
        Assert.Equal(503, (int)(await server.Client.GetAsync("/health", Token)).StatusCode);
    }
}
