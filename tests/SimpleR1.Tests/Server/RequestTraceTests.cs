using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>How a request can be found again: its id in the answer, and its line in the access log.</summary>
public sealed class RequestTraceTests
{
    private const string Header = "X-Request-Id";

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static async Task<string> IdAsync(TestServer server, string path, string? sent)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        if (sent is not null)
            request.Headers.TryAddWithoutValidation(Header, sent);
        using var response = await server.Client.SendAsync(request, Token);
        return Assert.Single(response.Headers.GetValues(Header));
    }

    [Theory]
    [InlineData("/health")]
    [InlineData("/nothing")] // errors have it too
    public async Task Request_id_is_repeated_or_made(string path)
    {
        await using var server = await TestServer.StartAsync();
        Assert.Equal("trace-17/a", await IdAsync(server, path, "trace-17/a"));
        string made = await IdAsync(server, path, null);
        Assert.Equal(32, made.Length);
        Assert.NotEqual(made, await IdAsync(server, path, null));
        Assert.Equal(32, (await IdAsync(server, path, new string('x', 200))).Length); // too long to repeat
        Assert.Equal(32, (await IdAsync(server, path, "two words")).Length);
    }

    [Fact]
    public async Task Access_log_has_a_line_for_each_request_and_nothing_that_a_client_could_forge()
    {
        var lines = new List<string>();
        await using var server = await TestServer.StartAsync(
            new()
            {
                AccessLog = line =>
                {
                    lock (lines)
                        lines.Add(line);
                },
            }
        );
        await IdAsync(server, "/health", "trace-1");
        await IdAsync(server, "/nothing%0A2026-01-01?secret=1", "trace-2");
        Assert.Equal(2, lines.Count);
        Assert.Matches(@"^\d{4}-\d\d-\d\dT\S+Z 127\.0\.0\.1 GET /health 200 \d+\.\d ms trace-1$", lines[0]);
        Assert.Contains(" GET /nothing%0A2026-01-01 404 ", lines[1]);
        Assert.DoesNotContain("secret", lines[1]);
    }

    /// <summary>With 'a' forced, a bad word shows whether it is kept out.</summary>
    [Fact]
    public async Task Bad_words_appear_nowhere()
    {
        await using var server = await TestServer.StartAsync();
        int a = TestServer.Tokenizer.Encode("a")[0];
        string forced = $"\"prompt\":\"x\",\"temperature\":0,\"max_tokens\":8,\"logit_bias\":{{\"{a}\":100}}";
        async Task<string> Text(string more) =>
            (await server.CompleteAsync(forced + more)).GetProperty("choices")[0].GetProperty("text").GetString()!;
        Assert.Equal("aaaaaaaa", await Text(""));
        Assert.DoesNotContain("a", await Text(",\"bad_words\":[\"a\"]"));
        string pairs = await Text(",\"bad_words\":[\" aa\"]"); // as vLLM has it, spaces before a word do not count
        Assert.Contains("a", pairs);
        Assert.DoesNotContain("aa", pairs);
        var (status, message, _, _) = await server.FailAsync(
            "/v1/completions",
            "{\"prompt\":\"x\",\"bad_words\":[\" \"]}"
        );
        Assert.Equal(400, status);
        Assert.Contains("bad_words", message);
    }
}
