using System.Text;
using System.Text.RegularExpressions;
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
            // A server for everyone on this machine, and one with a cluster key, whose admin port takes the weights.
            string key = Path.Combine(runs, "key");
            await File.WriteAllTextAsync(key, ClusterKey.NewText() + "\n", Token);
            using var serving = ServeWithWeights();
            using var keyed = ServeWithWeights("--key", "@" + key);
            await serving.SaysAsync("Ctrl-C stops it");
            await keyed.SaysAsync("Ctrl-C stops it");
            string address = VllmAddress(serving);
            string admin = AdminAddress().Match(keyed.Output).Value;

            // Another key is refused.
            var refused = await ProgramRun.RunAsync(
                TrainBy(runs, "refused", $"workers=[{admin}]", ClusterKey.NewText())
            );
            Assert.Equal(1, refused.Code);
            Assert.StartsWith($"error: {admin}", refused.Errors);
            Assert.Contains("did not prove that it has this cluster's key", refused.Errors);

            // All three runs learn the same.
            await SucceedsAsync(TrainBy(runs, "by-server", $"workers=[{address}]"));
            await SucceedsAsync(TrainBy(runs, "by-keyed", $"workers=[{admin}]", "@" + key));
            await SucceedsAsync(TrainBy(runs, "by-worker"));
            string[] losses = Losses(runs, "by-server");
            Assert.Equal(4, losses.Length); // of each step
            Assert.Equal(Losses(runs, "by-worker"), losses);
            Assert.Equal(Losses(runs, "by-worker"), Losses(runs, "by-keyed"));

            string refusal = Assert.Single(keyed.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries));
            Assert.Contains("did not prove that it has the cluster key", refusal);
            serving.Signal(ProgramRun.Terminate);
            Assert.Equal(0, await serving.EndAsync());
        }
        finally
        {
            Directory.Delete(runs, recursive: true);
        }
    }

    private static ProgramRun ServeWithWeights(params string[] more) =>
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

    private static string VllmAddress(ProgramRun server) =>
        Address().Match(server.Output).Value.Replace("http:", "vllm:", StringComparison.Ordinal).TrimEnd('/');

    /// <summary>Two steps of the quickstart.</summary>
    /// <param name="workers">The setting that names the workers; null for the run's own.</param>
    private static string[] TrainBy(string runs, string name, string? workers = null, string? key = null)
    {
        string[] settings =
        [
            "training.steps=2",
            "optimizer.warmup_steps=0",
            "rollout.prompts_per_step=4",
            "data.evaluation.take=8",
            "name=" + name,
        ];
        string[] command = ["train", "recipes/quickstart.yaml", "--runs", runs, .. TrainRun.Set(settings)];
        if (workers is not null)
            command = [.. command, "--set", workers];
        return key is null ? command : [.. command, "--key", key];
    }

    private static async Task SucceedsAsync(string[] train)
    {
        using var run = ProgramRun.Start(train);
        await run.SaysAsync("evaluation after step 0"); // each may take long on a busy machine
        await run.SaysAsync("step 2/2");
        Assert.True(await run.EndAsync() == 0, run.Errors + run.Output);
    }

    private static string[] Losses(string runs, string run)
    {
        string metrics = File.ReadAllText(Path.Combine(runs, run, "metrics.jsonl"));
        return [.. LossOf().Matches(metrics).Select(m => m.Value)];
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
        for (
            var clock = System.Diagnostics.Stopwatch.StartNew();
            !(await client.GetAsync("/health", Token)).IsSuccessStatusCode;
            await Task.Delay(100, Token)
        )
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(90), run.Output + run.Errors);
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
