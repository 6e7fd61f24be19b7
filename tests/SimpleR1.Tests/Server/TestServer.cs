using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Server;
using SimpleR1.Server.Sources;
using SimpleR1.Tests.Inference;
using SimpleR1.Vllm;
using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>
/// A server on a free loopback port, over a tiny random model whose tokens are the bytes and five added ones.
/// </summary>
internal sealed class TestServer : IAsyncDisposable
{
    public const string Model = "tiny";
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly EngineOptions Engine = new()
    {
        KvCacheBytes = 16 << 20,
        MaxSequences = 32,
        MaxBatchedTokens = 512,
    };

    private TestServer(LocalCompletions source, HttpServer server)
    {
        Source = source;
        Server = server;
        Client = new HttpClient { BaseAddress = server.Address, Timeout = Patience };
    }

    public LocalCompletions Source { get; }
    public HttpServer Server { get; }
    public HttpClient Client { get; }
    public List<string> Log { get; private init; } = [];

    public static Tokenizer Tokenizer => TestEngine.Tokenizer;
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static LocalCompletions Completions(
        EngineOptions? engine = null,
        int context = 4096,
        FlatWeights? weights = null
    ) =>
        new(
            Model,
            weights
                ?? TinyModels.Random(
                    TinyModels.Config(vocabulary: Tokenizer.VocabularySize) with
                    {
                        EosTokenIds = [256],
                        MaxPositions = context,
                    }
                ),
            Tokenizer,
            engine ?? Engine,
            threads: 1
        );

    /// <param name="weights">Weights that the test made, for example on a GPU; disposed with the server.</param>
    public static async Task<TestServer> StartAsync(
        HttpOptions? options = null,
        EngineOptions? engine = null,
        FlatWeights? weights = null
    )
    {
        var source = Completions(engine, weights: weights);
        var log = new List<string>();
        void Note(string line)
        {
            lock (log)
                log.Add(line);
        }
        var all = (options ?? new() { ChatTemplate = PromptTemplate.Create("chatml") }) with { Port = 0, Log = Note };
        return new(
            source,
            await HttpServer.StartAsync(
                source,
                all,
                all.WeightUpdates ? VllmWeightUpdates.For(source, all) : null,
                Token
            )
        )
        {
            Log = log,
        };
    }

    public async Task<HttpResponseMessage> SendAsync(
        string path,
        string json,
        HttpCompletionOption until = HttpCompletionOption.ResponseContentRead
    )
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path)
        {
            Content = new StringContent(json, Encoding.UTF8, "application/json"),
        };
        return await Client.SendAsync(request, until, Token);
    }

    /// <summary>The answer to a good request.</summary>
    public async Task<JsonElement> PostAsync(string path, string json)
    {
        using var response = await SendAsync(path, json);
        string text = await response.Content.ReadAsStringAsync(Token);
        Assert.True(response.IsSuccessStatusCode, $"{(int)response.StatusCode}: {text}");
        return JsonDocument.Parse(text).RootElement;
    }

    public Task<JsonElement> CompleteAsync(string fields) => PostAsync("/v1/completions", $"{{{fields}}}");

    /// <summary>The error of a bad request, in OpenAI's shape.</summary>
    public async Task<(int Status, string Message, string? Param, HttpResponseMessage Response)> FailAsync(
        string path,
        string json
    )
    {
        using var response = await SendAsync(path, json);
        return await ErrorAsync(response);
    }

    public static async Task<(int Status, string Message, string? Param, HttpResponseMessage Response)> ErrorAsync(
        HttpResponseMessage response
    )
    {
        string text = await response.Content.ReadAsStringAsync(Token);
        Assert.True((int)response.StatusCode >= 400, text);
        Assert.Equal("application/json", response.Content.Headers.ContentType?.MediaType);
        var error = JsonDocument.Parse(text).RootElement.GetProperty("error");
        Assert.Equal(JsonValueKind.String, error.GetProperty("type").ValueKind);
        Assert.True(error.TryGetProperty("code", out _));
        return (
            (int)response.StatusCode,
            error.GetProperty("message").GetString()!,
            error.GetProperty("param").GetString(),
            response
        );
    }

    /// <summary>The events of a stream up to [DONE]; fails without [DONE].</summary>
    public async Task<List<JsonElement>> StreamAsync(string path, string json)
    {
        using var response = await SendAsync(path, json, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        string[] lines = (await response.Content.ReadAsStringAsync(Token)).Split(
            "\n\n",
            StringSplitOptions.RemoveEmptyEntries
        );
        Assert.All(lines, line => Assert.StartsWith("data: ", line));
        Assert.Equal("data: [DONE]", lines[^1]);
        return [.. lines[..^1].Select(line => JsonDocument.Parse(line["data: ".Length..]).RootElement)];
    }

    /// <summary>
    /// A bare connection, to send what no client would. The server may have hung up already: then it reads as empty.
    /// </summary>
    public async Task<Socket> ConnectAsync()
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync("127.0.0.1", Server.Address.Port, Token);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset) { }
        return socket;
    }

    /// <summary>Everything up to the end of the connection.</summary>
    public static async Task<string> ReadAsync(Socket socket)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Token);
        deadline.CancelAfter(Patience);
        var text = new StringBuilder();
        byte[] buffer = new byte[4096];
        try
        {
            while (await socket.ReceiveAsync(buffer, deadline.Token) is > 0 and var count)
                text.Append(Encoding.UTF8.GetString(buffer, 0, count));
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.ConnectionReset or SocketError.NotConnected)
        { }
        return text.ToString();
    }

    /// <summary>Waits until nothing runs or waits, and all KV blocks are free.</summary>
    public Task IdleAsync() =>
        UntilAsync(
            () => Source.Statistics is { Running: 0, Waiting: 0, BlocksInUse: 0 },
            () => $"the engine to be idle; it has {Source.Statistics}"
        );

    /// <summary>Waits until /metrics has this line.</summary>
    public async Task MetricsSayAsync(string line)
    {
        string said = "";
        await UntilAsync(
            async () =>
                (said = await Client.GetStringAsync("/metrics", Token)).Contains(line + "\n", StringComparison.Ordinal),
            () => $"'{line}' in\n{said}"
        );
    }

    public static Task UntilAsync(Func<bool> condition, Func<string> what) =>
        UntilAsync(() => Task.FromResult(condition()), what);

    public static async Task UntilAsync(Func<Task<bool>> condition, Func<string> what)
    {
        for (var clock = Stopwatch.StartNew(); !await condition(); await Task.Delay(2, Token))
            if (clock.Elapsed > Patience)
                throw new TimeoutException($"waited {Patience.TotalSeconds} s for {what()}");
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Server.DisposeAsync();
        await Source.DisposeAsync();
        Assert.DoesNotContain(Log, line => line.Contains("bug", StringComparison.Ordinal));
    }
}
