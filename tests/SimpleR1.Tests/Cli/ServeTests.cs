using System.Text;
using System.Text.RegularExpressions;
using SimpleR1.Cluster.Membership;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary><c>simple-r1 serve</c> as a person starts it.</summary>
public sealed partial class ServeTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory, InlineData(ProgramRun.Terminate), InlineData(ProgramRun.Interrupt)]
    public async Task Serves_until_told_to_stop_and_lets_requests_finish(int signal)
    {
        using var run = ProgramRun.Start(
            "serve",
            "recipes/tiny-base",
            "--port",
            "0",
            "--api-key",
            "serve-test-key",
            "--template",
            "r1-zero",
            "--threads",
            "1",
            "--kv-cache-mib",
            "16"
        );
        await run.SaysAsync("Ctrl-C stops it");
        Assert.Contains("serving tiny-base on http://127.0.0.1:", run.Output);
        using var client = new HttpClient
        {
            BaseAddress = new(Address().Match(run.Output).Value),
            Timeout = TimeSpan.FromSeconds(60),
        };
        client.DefaultRequestHeaders.Authorization = new("Bearer", "serve-test-key");
        Assert.Contains("tiny-base", await client.GetStringAsync("/v1/models", Token));
        // A stream is under way when the signal comes, and is finished.
        using var content = new StringContent(
            "{\"prompt\":\"Q: 12+30-5\\nA:\",\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true}",
            Encoding.UTF8,
            "application/json"
        );
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions") { Content = content };
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Token);
        run.Signal(signal);
        Assert.EndsWith("data: [DONE]\n\n", await response.Content.ReadAsStringAsync(Token));
        Assert.Equal(0, await run.EndAsync());
        Assert.Contains("stopping; requests in flight have 30 s", run.Errors);
    }

    /// <summary>
    /// The quickstart with a server as its worker. The server samples what the run's own workers would, so the run
    /// learns the same.
    /// </summary>
    [Fact]
    public async Task Train_uses_a_server_as_its_worker()
    {
        string runs = Directory.CreateTempSubdirectory("simple-r1-vllm").FullName;
        try
        {
            using var serving = WeightServer();
            await serving.SaysAsync("Ctrl-C stops it");
            string address = Address()
                .Match(serving.Output)
                .Value.Replace("http:", "vllm:", StringComparison.Ordinal)
                .TrimEnd('/');
            string[] train = SmallTrain(runs);
            // A second server with a cluster key, whose admin port takes the weights.
            string key = Path.Combine(runs, "key");
            await File.WriteAllTextAsync(key, ClusterKey.NewText() + "\n", Token);
            using var keyed = WeightServer("--key", "@" + key);
            await keyed.SaysAsync("Ctrl-C stops it");
            string admin = AdminAddress().Match(keyed.Output).Value;
            await TrainWithAnotherKeyIsRefusedAsync(train, admin);
            await TrainsAsync([.. train, "--set", "name=by-server", "--set", $"workers=[{address}]"]);
            await TrainsAsync([.. train, "--set", "name=by-keyed", "--set", $"workers=[{admin}]", "--key", "@" + key]);
            await TrainsAsync([.. train, "--set", "name=by-worker"]);
            string[] losses = Losses(runs, "by-server");
            Assert.Equal(4, losses.Length); // of each step
            Assert.Equal(Losses(runs, "by-worker"), losses);
            Assert.Equal(Losses(runs, "by-worker"), Losses(runs, "by-keyed"));
            Assert.Contains(
                "did not prove that it has the cluster key",
                Assert.Single(keyed.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            );
            serving.Signal(ProgramRun.Terminate);
            Assert.Equal(0, await serving.EndAsync());
        }
        finally
        {
            Directory.Delete(runs, recursive: true);
        }
    }

    private static string[] SmallTrain(string runs) =>
        [
            "train",
            "recipes/quickstart.yaml",
            "--set",
            "training.steps=2",
            "--set",
            "optimizer.warmup_steps=0",
            "--set",
            "rollout.prompts_per_step=4",
            "--set",
            "data.evaluation.take=8",
            "--runs",
            runs,
        ];

    private static string[] Losses(string runs, string run) =>
        [.. LossOf().Matches(File.ReadAllText(Path.Combine(runs, run, "metrics.jsonl"))).Select(m => m.Value)];

    private static ProgramRun WeightServer(params string[] more) =>
        ProgramRun.Start([
            "serve",
            "recipes/tiny-base",
            "--port",
            "0",
            "--weight-updates",
            "--kv-cache-mib",
            "64",
            .. more,
        ]);

    private static async Task TrainWithAnotherKeyIsRefusedAsync(string[] train, string admin)
    {
        var refused = await ProgramRun.RunAsync([
            .. train,
            "--set",
            "name=refused",
            "--set",
            $"workers=[{admin}]",
            "--key",
            ClusterKey.NewText(),
        ]);
        Assert.Equal(1, refused.Code);
        Assert.StartsWith($"error: {admin}", refused.Errors);
        Assert.Contains("did not prove that it has this cluster's key", refused.Errors);
    }

    private static async Task TrainsAsync(string[] train)
    {
        using var run = ProgramRun.Start(train);
        await run.SaysAsync("evaluation after step 0"); // each may take long on a busy machine
        await run.SaysAsync("step 2/2");
        Assert.True(await run.EndAsync() == 0, run.Errors + run.Output);
    }

    /// <summary>
    /// The same request, whose answer depends on its seed alone: by one engine, by the workers of a head, and by these
    /// workers while one is killed.
    /// </summary>
    [Fact]
    public async Task Head_answers_with_the_workers_that_join_it_and_continues_when_one_is_killed()
    {
        string[] expected = await TextsOfOneEngineAsync();
        string join = $"127.0.0.1:{SiloSetup.FreePort(System.Net.IPAddress.Loopback, following: 1)}";
        using var head = ProgramRun.Start(
            "head",
            "--port",
            join.Split(':')[1],
            "--serve",
            "recipes/tiny-base",
            "--http-port",
            "0"
        );
        await head.SaysAsync("Ctrl-C stops it");
        var address = new Uri(Address().Match(head.Output).Value);
        using var client = new HttpClient { BaseAddress = address };
        await CheckNoWorkerHasTheModelAsync(client);
        using var one = ProgramRun.Start("worker", "--join", join, "--name", "one", "--threads", "1");
        await HealthyAsync(client, head, one);
        Assert.Equal(expected, await TextsAsync(address));
        using var two = ProgramRun.Start("worker", "--join", join, "--name", "two", "--threads", "1");
        await StatusNamesAsync(join, "two");
        int events = 0;
        void KillOneAtTheTwentiethEvent()
        {
            if (++events == 20)
                foreach (int worker in one.Workers())
                    ProgramRun.SendSignal(worker, ProgramRun.Kill); // the prompt's keys and values are there
        }
        Assert.Equal(expected, await TextsAsync(address, KillOneAtTheTwentiethEvent));
        Assert.Matches("simple_r1_generated_tokens_total [1-9]", await client.GetStringAsync("/metrics", Token));
        foreach (var run in new[] { one, two, head })
        {
            run.Signal(ProgramRun.Terminate);
            Assert.Equal(0, await run.EndAsync());
        }
    }

    private const string SeededBody =
        "{\"prompt\":\"Q: 12+30-5\\nA:\",\"max_tokens\":80,\"ignore_eos\":true,"
        + "\"seed\":7,\"n\":2,\"logprobs\":1,\"stream\":true}";

    private static StringContent Json(string text) => new(text, Encoding.UTF8, "application/json");

    private static async Task<string[]> TextsOfOneEngineAsync()
    {
        using var alone = ProgramRun.Start(
            "serve",
            "recipes/tiny-base",
            "--port",
            "0",
            "--threads",
            "1",
            "--kv-cache-mib",
            "16"
        );
        await alone.SaysAsync("Ctrl-C stops it");
        string[] texts = await TextsAsync(new(Address().Match(alone.Output).Value));
        alone.Signal(ProgramRun.Terminate);
        return texts;
    }

    private static async Task CheckNoWorkerHasTheModelAsync(HttpClient client)
    {
        using var early = await client.PostAsync("/v1/completions", Json(SeededBody), Token);
        Assert.Equal(System.Net.HttpStatusCode.ServiceUnavailable, early.StatusCode);
        Assert.Contains(
            "no worker has the model; start some with: simple-r1 worker --join",
            await early.Content.ReadAsStringAsync(Token)
        );
    }

    private static async Task HealthyAsync(HttpClient client, params ProgramRun[] runs)
    {
        for (
            var clock = System.Diagnostics.Stopwatch.StartNew();
            (await client.GetAsync("/health", Token)).StatusCode != System.Net.HttpStatusCode.OK;
            await Task.Delay(100, Token)
        )
            Assert.True(
                clock.Elapsed < TimeSpan.FromSeconds(90),
                string.Concat(runs.Select(run => run.Output + run.Errors))
            );
    }

    /// <summary>Returns when the head's status names the worker, or after a minute.</summary>
    private static async Task StatusNamesAsync(string join, string worker)
    {
        for (
            var clock = System.Diagnostics.Stopwatch.StartNew();
            !(await ProgramRun.RunAsync("status", "--join", join)).Output.Contains(worker)
                && clock.Elapsed < TimeSpan.FromSeconds(60);

        )
            await Task.Delay(200, Token);
    }

    /// <summary>The texts of both samples, from a stream; each event is told as it comes.</summary>
    private static async Task<string[]> TextsAsync(Uri server, Action? seen = null)
    {
        using var client = new HttpClient { BaseAddress = server };
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions") { Content = Json(SeededBody) };
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Token);
        if (!response.IsSuccessStatusCode)
            Assert.Fail($"{response.StatusCode}: {await response.Content.ReadAsStringAsync(Token)}");
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Token));
        var texts = new StringBuilder[] { new(), new() };
        for (string? line; (line = await reader.ReadLineAsync(Token)) is not null; )
            if (line.StartsWith("data: {", StringComparison.Ordinal))
            {
                seen?.Invoke();
                using var json = System.Text.Json.JsonDocument.Parse(line["data: ".Length..]);
                Assert.False(json.RootElement.TryGetProperty("error", out var error), error.ToString());
                foreach (var choice in json.RootElement.GetProperty("choices").EnumerateArray())
                    texts[choice.GetProperty("index").GetInt32()].Append(choice.GetProperty("text").GetString());
            }
        return [.. texts.Select(t => t.ToString())];
    }

    [Fact]
    public async Task Serve_starts_its_own_workers()
    {
        using var run = ProgramRun.Start(
            "serve",
            "recipes/tiny-base",
            "--workers",
            "2",
            "--port",
            "0",
            "--template",
            "Q: {question}\\nA:",
            "--threads",
            "1",
            "--kv-cache-mib",
            "16"
        );
        await run.SaysAsync("Ctrl-C stops it");
        using var client = new HttpClient
        {
            BaseAddress = new(Address().Match(run.Output).Value),
            Timeout = TimeSpan.FromSeconds(60),
        };
        await HealthyAsync(client, run);
        using var content = new StringContent(
            "{\"messages\":[{\"role\":\"user\",\"content\":\"12+30-5\"}],\"max_tokens\":20}",
            Encoding.UTF8,
            "application/json"
        );
        using var answer = await client.PostAsync("/v1/chat/completions", content, Token);
        Assert.Contains("\"finish_reason\"", await answer.Content.ReadAsStringAsync(Token));
        Assert.Equal(2, run.Workers().Length);
        run.Signal(ProgramRun.Interrupt);
        Assert.Equal(0, await run.EndAsync());
        await run.WorkersEndAsync();
        foreach (
            string[] wrong in (string[][])
                [
                    ["--workers", "2", "--weight-updates"],
                    ["--join", "127.0.0.1:1", "--device", "cuda"],
                ]
        )
            Assert.NotEqual(0, (await ProgramRun.RunAsync(["serve", "recipes/tiny-base", .. wrong])).Code);
    }

    [GeneratedRegex("\"(reward|loss)\": ?[^,]+")]
    private static partial Regex LossOf();

    [Theory]
    [InlineData("--api-key KEY", "recipes/tiny-base", "--host", "0.0.0.0")]
    [InlineData("expected an IP address", "recipes/tiny-base", "--host", "example.com")]
    [InlineData("--max-n: expected at least 1, found 0", "recipes/tiny-base", "--max-n", "0")]
    [InlineData(
        "--admin-port is for those who have the cluster key",
        "recipes/tiny-base",
        "--weight-updates",
        "--admin-port",
        "7000"
    )]
    [InlineData("--tls-key: name the certificate with --tls-cert", "recipes/tiny-base", "--tls-key", "key.pem")]
    [InlineData("--tls-cert: there is no file ", "recipes/tiny-base", "--tls-cert", "no/such/cert.pem")]
    [InlineData("neither a built-in template", "recipes/tiny-base", "--template", "nonsense")]
    [InlineData("MaxSequences: expected at least 1", "recipes/tiny-base", "--max-sequences=-1", "--port", "0")]
    [InlineData("no/such/model", "no/such/model")]
    public async Task Wrong_options_end_with_what_to_do(string says, params string[] arguments)
    {
        var (code, output, errors) = await ProgramRun.RunAsync(["serve", .. arguments]);
        Assert.Equal(1, code);
        Assert.Contains(says, errors);
        Assert.DoesNotContain("bug", errors);
        Assert.Equal("", output);
    }

    [GeneratedRegex(@"vllm://[0-9.:]+")]
    private static partial Regex AdminAddress();

    [GeneratedRegex(@"http://\S+")]
    private static partial Regex Address();
}
