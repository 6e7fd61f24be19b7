using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using SimpleR1.Cluster.Membership;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary><c>simple-r1 head --serve</c> as a person starts it.</summary>
public sealed partial class HeadServeTests
{
    private const string Body =
        "{\"prompt\":\"Q: 12+30-5\\nA:\",\"max_tokens\":80,\"ignore_eos\":true,"
        + "\"seed\":7,\"n\":2,\"logprobs\":1,\"stream\":true}";
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>
    /// The same request, whose answer depends on its seed alone: by one engine, by the workers of a head, and by these
    /// workers while one is killed.
    /// </summary>
    [Fact]
    public async Task Head_answers_with_the_workers_that_join_it_and_continues_when_one_is_killed()
    {
        string[] expected = await ServeAloneAsync();
        string join = $"127.0.0.1:{SiloSetup.FreePort(IPAddress.Loopback, following: 1)}";
        string[] serve = ["--serve", "recipes/tiny-base", "--http-port", "0"];
        using var head = ProgramRun.Start(["head", "--port", join.Split(':')[1], .. serve]);
        await head.SaysAsync("Ctrl-C stops it");
        using var client = new HttpClient { BaseAddress = new(Address().Match(head.Output).Value) };
        await AssertUnavailableAsync(client);

        // With one worker, then with two of which one is killed.
        using var one = ProgramRun.Start("worker", "--join", join, "--name", "one", "--threads", "1");
        await HealthyAsync(client, () => head.Output + one.Output);
        Assert.Equal(expected, await TextsAsync(client));
        using var two = ProgramRun.Start("worker", "--join", join, "--name", "two", "--threads", "1");
        await JoinedAsync(join, "two");
        int events = 0;
        void KillOne()
        {
            if (++events == 20) // the prompt's keys and values are there
                foreach (int worker in one.Workers())
                    ProgramRun.SendSignal(worker, ProgramRun.Kill);
        }
        Assert.Equal(expected, await TextsAsync(client, KillOne));

        Assert.Matches("simple_r1_generated_tokens_total [1-9]", await client.GetStringAsync("/metrics", Token));
        foreach (var run in new[] { one, two, head })
        {
            run.Signal(ProgramRun.Terminate);
            Assert.Equal(0, await run.EndAsync());
        }
    }

    /// <summary>The answer of one engine.</summary>
    private static async Task<string[]> ServeAloneAsync()
    {
        string[] small = ["--threads", "1", "--kv-cache-mib", "16"];
        using var alone = ProgramRun.Start(["serve", "recipes/tiny-base", "--port", "0", .. small]);
        await alone.SaysAsync("Ctrl-C stops it");
        using var client = new HttpClient { BaseAddress = new(Address().Match(alone.Output).Value) };
        string[] texts = await TextsAsync(client);
        alone.Signal(ProgramRun.Terminate);
        return texts;
    }

    private static async Task AssertUnavailableAsync(HttpClient client)
    {
        using var early = await client.PostAsync("/v1/completions", Json(Body), Token);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, early.StatusCode);
        Assert.Contains(
            "no worker has the model; start some with: simple-r1 worker --join",
            await early.Content.ReadAsStringAsync(Token)
        );
    }

    private static async Task HealthyAsync(HttpClient client, Func<string> output)
    {
        for (
            var clock = Stopwatch.StartNew();
            (await client.GetAsync("/health", Token)).StatusCode != HttpStatusCode.OK;
            await Task.Delay(100, Token)
        )
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(90), output());
    }

    /// <summary>Waits until the head lists a worker, for a minute at most.</summary>
    private static async Task JoinedAsync(string join, string worker)
    {
        var clock = Stopwatch.StartNew();
        while (clock.Elapsed < TimeSpan.FromSeconds(60))
        {
            var status = await ProgramRun.RunAsync("status", "--join", join);
            if (status.Output.Contains(worker, StringComparison.Ordinal))
                return;
            await Task.Delay(200, Token);
        }
    }

    /// <summary>The texts of the request's choices, streamed.</summary>
    /// <param name="onEvent">Called for each event of the stream.</param>
    private static async Task<string[]> TextsAsync(HttpClient client, Action? onEvent = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions") { Content = Json(Body) };
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Token);
        if (!response.IsSuccessStatusCode)
            Assert.Fail($"{response.StatusCode}: {await response.Content.ReadAsStringAsync(Token)}");

        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Token));
        var texts = new StringBuilder[] { new(), new() };
        for (string? line; (line = await reader.ReadLineAsync(Token)) is not null; )
        {
            if (!line.StartsWith("data: {", StringComparison.Ordinal))
                continue;
            onEvent?.Invoke();
            using var json = JsonDocument.Parse(line["data: ".Length..]);
            Assert.False(json.RootElement.TryGetProperty("error", out var error), error.ToString());
            foreach (var choice in json.RootElement.GetProperty("choices").EnumerateArray())
                texts[choice.GetProperty("index").GetInt32()].Append(choice.GetProperty("text").GetString());
        }
        return [.. texts.Select(t => t.ToString())];
    }

    private static StringContent Json(string text) => new(text, Encoding.UTF8, "application/json");

    [GeneratedRegex(@"http://\S+")]
    private static partial Regex Address();
}
