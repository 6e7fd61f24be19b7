using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Text;
using static System.FormattableString;

namespace SimpleR1.Benchmarks;

/// <summary>
/// Sends a server everything that one on the open net receives, while good requests continue: malformed requests by the
/// thousand, slow connections, endless bodies, clients that leave. Only ever against the loopback interface.
/// </summary>
/// <param name="scale">1 is the full size; tests run a small part.</param>
public sealed class HttpAbuse(Uri server, double scale, Action<string> log)
{
    private const int GoodClients = 2;
    private const int Attackers = 4;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly HttpClient client = new() { BaseAddress = server, Timeout = Patience };
    private readonly double seconds = 20 * Math.Pow(scale, 2.0 / 3); // of each attack

    private delegate Task<int> Attack(int number, CancellationToken stop);

    /// <summary>One kind of attack.</summary>
    /// <param name="Count">How often it runs.</param>
    /// <param name="Expected">The statuses that may answer it; 0 hangs up.</param>
    private sealed record AttackPlan(string Name, double Count, Attack Attack, int[] Expected)
    {
        public int Attacks => (int)Math.Ceiling(Count);

        /// <summary>All attacks run at the same time, instead of taking turns.</summary>
        public bool AtOnce { get; init; }
    }

    /// <summary>Runs all phases and logs a line for each.</summary>
    /// <exception cref="ArgumentException">The server is not on this machine.</exception>
    /// <exception cref="InvalidOperationException">The server answered with a 5xx.</exception>
    /// <exception cref="TimeoutException">KV blocks stayed in use afterwards.</exception>
    public async Task<IReadOnlyList<AbusePhase>> RunAsync(CancellationToken stop)
    {
        if (!IPAddress.TryParse(server.Host, out var address) || !IPAddress.IsLoopback(address))
            throw new ArgumentException($"{server} is not on this machine; this is no tool for others' servers");

        await GoodAsync(new ConcurrentBag<double>(), stop); // the first is slower
        log(
            $"{"", -30}{"attacks", 8}   good requests, ms: quiet {"median", 7}{"p99", 8}   "
                + $"attacked {"median", 7}{"p99", 8}{"ratio", 7}{"failed", 8}   answers"
        );
        List<AbusePhase> phases = [];
        foreach (var plan in Plans())
        {
            var phase = await PhaseAsync(plan, stop);
            Log(phase);
            phases.Add(phase);
        }
        await IdleAsync(stop);
        log("all KV blocks are free, nothing runs or waits");
        return phases;
    }

    private AttackPlan[] Plans()
    {
        var attacks = new HttpAttacks(server);
        string deep = new('[', 100_000);
        Task<int> ManyAsync(int number, CancellationToken stop) => PostAsync("{\"prompt\":\"a\",\"n\":1000000}", stop);
        Task<int> DeepAsync(int number, CancellationToken stop) => PostAsync("{\"prompt\":" + deep, stop);
        return
        [
            new("malformed requests", 10_000 * scale, attacks.MalformedAsync, MalformedRequests.Expected),
            new("slow connections", 1_000 * scale, attacks.SlowAsync, [0, 408]) { AtOnce = true },
            new("bodies of 1 GB", Math.Max(2, 20 * scale), attacks.HugeAsync, [0, 413]),
            new("n = 1,000,000", 1_000 * scale, ManyAsync, [400]),
            new("JSON of 100,000 levels", 1_000 * scale, DeepAsync, [400]),
            new("clients that leave mid-stream", 1_000 * scale, attacks.LeaveAsync, [200]),
        ];
    }

    private void Log(AbusePhase p)
    {
        var answers = p.Answers.OrderBy(a => a.Key).Select(a => $"{(a.Key == 0 ? "hung up" : $"{a.Key}")} x {a.Value}");
        string wrong = p.Wrong > 0 ? $"   WRONG: {p.Wrong}" : "";
        log(
            Invariant(
                $"{p.Name, -30}{p.Attacks, 8}                            {p.Quiet.Median, 7:F1}{p.Quiet.P99, 8:F1}"
            )
                + Invariant(
                    $"            {p.During.Median, 7:F1}{p.During.P99, 8:F1}{p.During.P99 / p.Quiet.P99, 7:F2}"
                )
                + $"{p.GoodFailed, 8}   {string.Join(", ", answers)}{wrong}"
        );
    }

    /// <summary>
    /// Good requests one after another all the time; the attacks, spread evenly, in the middle half of it.
    /// </summary>
    private async Task<AbusePhase> PhaseAsync(AttackPlan plan, CancellationToken stop)
    {
        // Good clients.
        ConcurrentBag<double> quiet = [];
        ConcurrentBag<double> during = [];
        var current = quiet;
        int failed = 0;
        using var phaseOver = CancellationTokenSource.CreateLinkedTokenSource(stop);
        async Task GoodClientAsync()
        {
            while (!phaseOver.IsCancellationRequested)
                if (!await GoodAsync(Volatile.Read(ref current), stop))
                    Interlocked.Increment(ref failed);
        }
        Task[] good = [.. Enumerable.Range(0, GoodClients).Select(_ => Task.Run(GoodClientAsync, stop))];

        // Quiet, attack, quiet.
        await Task.Delay(TimeSpan.FromSeconds(seconds / 2), stop);
        Volatile.Write(ref current, during);
        var answers = await AttackAsync(plan, stop);
        Volatile.Write(ref current, quiet);
        await Task.Delay(TimeSpan.FromSeconds(seconds / 2), stop);
        phaseOver.Cancel();
        await Task.WhenAll(good);

        return new()
        {
            Name = plan.Name,
            Attacks = plan.Attacks,
            Answers = answers,
            Wrong = answers.Where(a => !plan.Expected.Contains(a.Key)).Sum(a => a.Value),
            Good = during.Count,
            GoodFailed = failed,
            Quiet = Latency.Of(quiet),
            During = Latency.Of(during),
        };
    }

    /// <returns>How often each status came.</returns>
    private async Task<ConcurrentDictionary<int, int>> AttackAsync(AttackPlan plan, CancellationToken stop)
    {
        var answers = new ConcurrentDictionary<int, int>();
        var clock = Stopwatch.StartNew();
        double startWithin = seconds * (plan.AtOnce ? 0.25 : 1);
        int next = 0;
        async Task AttackerAsync()
        {
            for (int number; (number = Interlocked.Increment(ref next) - 1) < plan.Attacks; )
            {
                var wait = TimeSpan.FromSeconds(startWithin * number / plan.Attacks) - clock.Elapsed;
                if (wait > TimeSpan.Zero)
                    await Task.Delay(wait, stop);
                answers.AddOrUpdate(await plan.Attack(number, stop), 1, (_, count) => count + 1);
            }
        }
        int attackers = plan.AtOnce ? plan.Attacks : Math.Min(plan.Attacks, Attackers);
        await Task.WhenAll(Enumerable.Range(0, attackers).Select(_ => Task.Run(AttackerAsync, stop)));

        if (clock.Elapsed.TotalSeconds < seconds)
            await Task.Delay(TimeSpan.FromSeconds(seconds) - clock.Elapsed, stop);
        return answers;
    }

    private async Task<bool> GoodAsync(ConcurrentBag<double> latencies, CancellationToken stop)
    {
        long start = Stopwatch.GetTimestamp();
        int status = await PostAsync("{\"prompt\":\"Q: 12+30-5\\nA:\",\"max_tokens\":32,\"ignore_eos\":true}", stop);
        latencies.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
        return status == 200;
    }

    private async Task<int> PostAsync(string json, CancellationToken stop)
    {
        using var content = new StringContent(json, Encoding.UTF8, "application/json");
        using var response = await client.PostAsync("/v1/completions", content, stop);
        if ((int)response.StatusCode >= 500)
            throw new InvalidOperationException($"the server failed: {await response.Content.ReadAsStringAsync(stop)}");
        return (int)response.StatusCode;
    }

    /// <summary>Waits until the server holds nothing any more.</summary>
    private async Task IdleAsync(CancellationToken stop)
    {
        string[] zero =
        [
            "simple_r1_kv_blocks_in_use 0\n",
            "simple_r1_running_sequences 0\n",
            "simple_r1_waiting_sequences 0\n",
            "simple_r1_admitted_sequences 0\n",
            "simple_r1_body_bytes 0\n",
        ];
        for (var clock = Stopwatch.StartNew(); ; await Task.Delay(20, stop))
        {
            string metrics = await client.GetStringAsync("/metrics", stop);
            if (zero.All(line => metrics.Contains(line, StringComparison.Ordinal)))
                return;
            if (clock.Elapsed > Patience)
                throw new TimeoutException(
                    $"waited {Patience.TotalSeconds} s for all KV blocks to be free:\n{metrics}"
                );
        }
    }
}
