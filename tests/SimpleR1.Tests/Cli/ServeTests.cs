using System.Text;
using System.Text.RegularExpressions;
using SimpleR1.Sync;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary><c>simple-r1 serve</c> as a person starts it.</summary>
public sealed partial class ServeTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory, InlineData(ProgramRun.Terminate), InlineData(ProgramRun.Interrupt)]
    public async Task Serves_until_told_to_stop_and_lets_requests_finish(int signal)
    {
        using var run = ProgramRun.Start("serve", "recipes/tiny-base", "--port", "0", "--api-key", "serve-test-key", "--template", "r1-zero", "--threads", "1", "--kv-cache-mib", "16");
        await run.SaysAsync("Ctrl-C stops it");
        Assert.Contains("serving tiny-base on http://127.0.0.1:", run.Output);
        using var client = new HttpClient { BaseAddress = new(Address().Match(run.Output).Value), Timeout = TimeSpan.FromSeconds(60) };
        client.DefaultRequestHeaders.Authorization = new("Bearer", "serve-test-key");
        Assert.Contains("tiny-base", await client.GetStringAsync("/v1/models", Token));
        // A stream is under way when the signal comes, and is finished.
        using var content = new StringContent("{\"prompt\":\"Q: 12+30-5\\nA:\",\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true}", Encoding.UTF8, "application/json");
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions") { Content = content };
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Token);
        run.Signal(signal);
        Assert.EndsWith("data: [DONE]\n\n", await response.Content.ReadAsStringAsync(Token));
        Assert.Equal(0, await run.EndAsync());
        Assert.Contains("stopping; requests in flight have 30 s", run.Errors);
    }

    /// <summary>The quickstart with a server as its worker: what it samples, and so what the run learns, is what workers of its own would.</summary>
    [Fact]
    public async Task Train_uses_a_server_as_its_worker()
    {
        string runs = Directory.CreateTempSubdirectory("simple-r1-vllm").FullName;
        try
        {
            using var serving = ProgramRun.Start("serve", "recipes/tiny-base", "--port", "0", "--weight-updates", "--kv-cache-mib", "64");
            await serving.SaysAsync("Ctrl-C stops it");
            string address = Address().Match(serving.Output).Value.Replace("http:", "vllm:", StringComparison.Ordinal).TrimEnd('/');
            string[] train = ["train", "recipes/quickstart.yaml", "--set", "training.steps=2", "--set", "optimizer.warmup_steps=0", "--set", "rollout.prompts_per_step=4", "--set", "data.evaluation.take=8", "--runs", runs];
            // Another one with a cluster key, which is reached by its admin port.
            string key = Path.Combine(runs, "key");
            await File.WriteAllTextAsync(key, ClusterKey.NewText() + "\n", Token);
            using var keyed = ProgramRun.Start("serve", "recipes/tiny-base", "--port", "0", "--weight-updates", "--key", "@" + key, "--kv-cache-mib", "64");
            await keyed.SaysAsync("Ctrl-C stops it");
            string admin = AdminAddress().Match(keyed.Output).Value;
            var refused = await ProgramRun.RunAsync([.. train, "--set", "name=refused", "--set", $"workers=[{admin}]", "--key", ClusterKey.NewText()]);
            Assert.Equal(1, refused.Code);
            Assert.StartsWith($"error: {admin}", refused.Errors);
            Assert.Contains("did not prove that it has this cluster's key", refused.Errors);
            foreach (string[] by in (string[][])[["name=by-server", "--set", $"workers=[{address}]"], ["name=by-keyed", "--set", $"workers=[{admin}]", "--key", "@" + key], ["name=by-worker"]])
            {
                using var run = ProgramRun.Start([.. train, "--set", .. by]);
                await run.SaysAsync("evaluation after step 0"); // each of these may take its time on a busy machine
                await run.SaysAsync("step 2/2");
                Assert.True(await run.EndAsync() == 0, run.Errors + run.Output);
            }
            string[] Losses(string run) => [.. LossOf().Matches(File.ReadAllText(Path.Combine(runs, run, "metrics.jsonl"))).Select(m => m.Value)];
            Assert.Equal(4, Losses("by-server").Length); // of each step
            Assert.Equal(Losses("by-worker"), Losses("by-server"));
            Assert.Equal(Losses("by-worker"), Losses("by-keyed"));
            Assert.Contains("did not prove that it has the cluster key", Assert.Single(keyed.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries)));
            serving.Signal(ProgramRun.Terminate);
            Assert.Equal(0, await serving.EndAsync());
        }
        finally { Directory.Delete(runs, recursive: true); }
    }

    [GeneratedRegex("\"(reward|loss)\": ?[^,]+")] private static partial Regex LossOf();

    [Theory]
    [InlineData("--api-key KEY", "recipes/tiny-base", "--host", "0.0.0.0")]
    [InlineData("expected an IP address", "recipes/tiny-base", "--host", "example.com")]
    [InlineData("--max-n: expected at least 1, found 0", "recipes/tiny-base", "--max-n", "0")]
    [InlineData("--admin-port is for those who have the cluster key", "recipes/tiny-base", "--weight-updates", "--admin-port", "7000")]
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

    [GeneratedRegex(@"vllm://[0-9.:]+")] private static partial Regex AdminAddress();
    [GeneratedRegex(@"http://\S+")] private static partial Regex Address();
}
