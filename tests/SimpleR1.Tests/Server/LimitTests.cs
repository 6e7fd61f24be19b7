using System.Net;
using System.Net.Sockets;
using System.Text;
using SimpleR1.Inference;
using SimpleR1.Server;
using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>A client that asks for too much gets an error that says so, and other clients do not notice.</summary>
public sealed class LimitTests
{
    private const string Path = "/v1/completions",
        Long = "{\"prompt\":\"a\",\"max_tokens\":4000,\"ignore_eos\":true,\"stream\":true}";
    private const string Hundred =
        "1234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890";
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static Task<TestServer> StartAsync(HttpLimits limits, EngineOptions? engine = null) =>
        TestServer.StartAsync(new() { Limits = limits }, engine);

    /// <summary>The head of a request for a completion.</summary>
    /// <param name="length">The header that says how long the body is.</param>
    private static string Head(string length) =>
        $"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}\r\n\r\n";

    private static async Task<string> RawAsync(TestServer server, string head, string rest = "")
    {
        using var socket = await server.ConnectAsync();
        await socket.SendAsync(Encoding.ASCII.GetBytes(head + rest), Token);
        return await TestServer.ReadAsync(socket);
    }

    [Fact]
    public async Task Body_over_the_limit_is_a_413_with_or_without_a_length()
    {
        await using var server = await StartAsync(new() { BodyKib = 4 });
        var (status, message, _, _) = await server.FailAsync(Path, $"{{\"prompt\":\"{new string('a', 5000)}\"}}");
        Assert.Equal(413, status);
        Assert.Contains("4 KiB", message);
        // In chunks, without a size in advance; and a gigabyte announced, of which nothing comes.
        string chunk = $"800\r\n{new string(' ', 0x800)}\r\n";
        string chunked = await RawAsync(server, Head("Transfer-Encoding: chunked"), chunk + chunk + chunk);
        Assert.StartsWith("HTTP/1.1 413 ", chunked);
        Assert.Contains("4 KiB", chunked);
        Assert.StartsWith("HTTP/1.1 413 ", await RawAsync(server, Head("Content-Length: 1000000000")));
        await server.CompleteAsync("\"prompt\":\"a\"");
    }

    [Theory, InlineData("fffffffffffffffff\r\n"), InlineData("zz\r\n"), InlineData("-1\r\n")]
    public async Task Chunk_of_impossible_size_is_a_400(string chunk)
    {
        await using var server = await StartAsync(new());
        Assert.StartsWith("HTTP/1.1 400 ", await RawAsync(server, Head("Transfer-Encoding: chunked"), chunk));
    }

    [Fact]
    public async Task Bodies_of_all_together_are_bounded()
    {
        await using var server = await StartAsync(new() { BodiesMib = 1, BodyKib = 2048 });
        using var holder = await server.ConnectAsync();
        await holder.SendAsync(
            Encoding.ASCII.GetBytes(Head("Content-Length: 900000") + new string(' ', 600_000)),
            Token
        );
        await server.MetricsSayAsync("simple_r1_body_bytes 1048576"); // its buffer has grown to the whole budget
        var (status, _, _, response) = await server.FailAsync(Path, "{\"prompt\":\"a\"}");
        Assert.Equal(429, status);
        Assert.Equal(TimeSpan.FromSeconds(1), response.Headers.RetryAfter?.Delta);
        holder.Close();
        await server.MetricsSayAsync("simple_r1_body_bytes 0");
        await server.CompleteAsync("\"prompt\":\"a\"");
    }

    [Fact]
    public async Task Headers_over_the_limit_are_a_431_and_an_endless_line_a_414()
    {
        await using var server = await StartAsync(new() { HeaderKib = 4 });
        Assert.StartsWith(
            "HTTP/1.1 431 ",
            await RawAsync(
                server,
                $"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Large: {new string('a', 5000)}\r\n\r\n"
            )
        );
        Assert.StartsWith(
            "HTTP/1.1 414 ",
            await RawAsync(server, $"GET /{new string('a', 5000)} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        );
        Assert.StartsWith("HTTP/1.1 400 ", await RawAsync(server, "GET /health\r\n\r\n"));
    }

    [Theory]
    [InlineData("prompts of up to 8 tokens", "{\"prompt\":\"123456789\"}")]
    [InlineData("prompts of up to 8 tokens", "{\"prompt\":[\"1\",\"123456789\"]}")]
    [InlineData("prompts of up to 8 tokens", "{\"prompt\":[1,2,3,4,5,6,7,8,9]}")]
    [InlineData("at least", "{\"prompt\":[\"" + Hundred + Hundred + Hundred + "\"]}")] // not tokenized at all
    [InlineData("from 1 to 4", "{\"prompt\":\"1\",\"n\":5}")]
    [InlineData("more than the 16 sequences", "{\"prompt\":[\"1\",\"1\",\"1\",\"1\",\"1\"],\"n\":4}")]
    [InlineData("deeper than 6 levels", "{\"prompt\":[[[[[[[1]]]]]]]}")]
    [InlineData("not JSON", "{\"prompt\":")]
    [InlineData("not JSON", "{\"prompt\":\"1\",\"prompt\":\"1\"}")]
    [InlineData("Expected a JSON object", "[]")]
    [InlineData("no Unicode", "{\"prompt\":\"\\ud800\"}")]
    [InlineData("no Unicode", "{\"\\udc00\":1}")]
    public async Task Too_much_and_too_wrong_is_a_400_that_says_what(string says, string json)
    {
        await using var server = await StartAsync(
            new()
            {
                PromptTokens = 8,
                N = 4,
                Queue = 16,
                JsonDepth = 6,
            }
        );
        var (status, message, _, _) = await server.FailAsync(Path, json);
        Assert.Equal(400, status);
        Assert.Contains(says, message);
    }

    [Fact]
    public async Task Hundred_thousand_levels_of_JSON_are_a_400()
    {
        await using var server = await StartAsync(new());
        foreach (string open in (string[])["[", "{\"a\":"])
            Assert.Equal(400, (await server.FailAsync(Path, string.Concat(Enumerable.Repeat(open, 100_000)))).Status);
    }

    [Fact]
    public async Task Sequences_beyond_the_queue_are_a_429_until_others_end()
    {
        await using var server = await StartAsync(
            new() { Queue = 2 },
            new()
            {
                KvCacheBytes = 16 << 20,
                MaxSequences = 2,
                MaxBatchedTokens = 512,
            }
        );
        var running = new List<HttpResponseMessage>();
        for (int i = 0; i < 4; i++) // two run, two wait
        {
            running.Add(null!);
            int place = i;
            _ = Task.Run(
                async () =>
                    running[place] = await server.SendAsync(Path, Long, HttpCompletionOption.ResponseHeadersRead),
                Token
            );
        }
        await TestServer.UntilAsync(
            () => server.Source.Statistics is { Running: 2, Waiting: 2 },
            () => "two sequences to run and two to wait"
        );
        var (status, message, _, response) = await server.FailAsync(Path, "{\"prompt\":\"a\"}");
        Assert.Equal(429, status);
        Assert.Contains("limit of 4", message);
        Assert.NotNull(response.Headers.RetryAfter);
        Assert.Contains(
            "simple_r1_requests_total{route=\"/v1/completions\",status=\"429\"} 1",
            await server.Client.GetStringAsync("/metrics", Token)
        );
        await TestServer.UntilAsync(() => running.Count(r => r is not null) >= 2, () => "the first tokens of two");
        foreach (var one in running.Where(r => r is not null))
            one.Dispose(); // hangs up
        await TestServer.UntilAsync(() => server.Source.Statistics.FinishedSequences >= 2, () => "two to be aborted");
        Assert.Equal(
            HttpStatusCode.OK,
            (await server.SendAsync(Path, "{\"prompt\":\"a\",\"max_tokens\":1}")).StatusCode
        );
    }

    [Fact]
    public async Task Connections_beyond_the_limit_get_a_429()
    {
        await using var server = await StartAsync(new() { Connections = 2 });
        using var first = await server.ConnectAsync();
        using var second = await server.ConnectAsync();
        using var third = await server.ConnectAsync();

        // The server takes connections in on several threads, so any of the three may be the one too many
        Socket[] sockets = [first, second, third];
        Task<string>[] reads = [.. sockets.Select(TestServer.ReadAsync)];
        var refused = await Task.WhenAny(reads);
        string answer = await refused;
        Assert.StartsWith("HTTP/1.1 429 Too Many Requests\r\n", answer);
        Assert.Contains("Retry-After: 1\r\n", answer);
        Assert.Contains("limit of 2 connections", answer);
        Assert.Equal(2, reads.Count(r => !r.IsCompleted));

        int kept = Array.FindIndex(reads, r => r != refused);
        sockets[kept].Shutdown(SocketShutdown.Both);
        await reads[kept];
        await TestServer.UntilAsync(
            async () =>
            {
                using var next = await server.ConnectAsync();
                await next.SendAsync(
                    "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"u8.ToArray(),
                    Token
                );
                return (await TestServer.ReadAsync(next)).StartsWith("HTTP/1.1 200 ", StringComparison.Ordinal);
            },
            () => "a connection in the place of the closed one"
        );
    }

    [Fact]
    public async Task Headers_that_take_too_long_are_a_408()
    {
        await using var server = await StartAsync(new() { HeaderSeconds = 1 });
        Assert.StartsWith("HTTP/1.1 408 ", await RawAsync(server, "POST /v1/completions HTTP/1.1\r\nHost: loc"));
    }

    [Fact]
    public async Task Body_that_takes_too_long_is_a_408()
    {
        await using var server = await StartAsync(new() { BytesPerSecond = 1_000_000 });
        string answer = await RawAsync(server, Head("Content-Length: 100") + "{\"prompt\"");
        Assert.StartsWith("HTTP/1.1 408 ", answer);
        Assert.Contains("\"error\"", answer);
    }

    [Fact]
    public async Task Another_content_type_is_a_415()
    {
        await using var server = await StartAsync(new());
        using var content = new StringContent("{\"prompt\":\"a\"}", Encoding.UTF8, "text/plain");
        var (status, message, _, _) = await TestServer.ErrorAsync(await server.Client.PostAsync(Path, content, Token));
        Assert.Equal(415, status);
        Assert.Contains("application/json", message);
    }

    [Theory]
    [InlineData("0.0.0.0", null, "--api-key")]
    [InlineData("::", null, "--api-key")]
    [InlineData("127.0.0.1", "short", "at least 8")]
    public void Options_that_let_anyone_in_are_refused(string host, string? key, string says)
    {
        var options = new HttpOptions
        {
            Host = IPAddress.Parse(host),
            ApiKeys = key is null ? [] : [key],
            Limits = new() { N = 0 },
        };
        string message = Assert.Throws<ArgumentException>(options.Check).Message;
        Assert.Contains(says, message);
        Assert.Contains("--max-n: expected at least 1, found 0", message); // with all else that is wrong
    }
}
