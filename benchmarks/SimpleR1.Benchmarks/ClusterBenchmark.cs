using System.Diagnostics;
using System.Net;
using System.Runtime.InteropServices;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;

namespace SimpleR1.Benchmarks;

/// <summary>
/// Measures what a cluster survives and what it costs, on this machine: <c>cluster quiet</c>, <c>kill</c>, <c>stop</c>,
/// <c>restart</c>, <c>redis</c>, <c>route</c>. The head is a process of its own, workers are processes that join it, and this
/// process is the trainer. Each benchmark ends by itself in bounded time.
/// </summary>
internal static partial class ClusterBenchmark
{
    private const int Kill = 9,
        Stop = 19,
        Continue = 18,
        WorkerCount = 4;
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <returns>The exit code; null when the arguments are for other benchmarks.</returns>
    public static async Task<int?> RunAsync(string[] args)
    {
        if (await WorkerProcess.RunIfAskedAsync(args) is { } exitCode)
            return exitCode;
        if (args is ["head", var port, .. var membership])
            return await HeadAsync(int.Parse(port), membership.FirstOrDefault());
        if (args is not ["cluster", var name, .. var rest])
            return null;
        var seconds = TimeSpan.FromSeconds(rest.Length > 0 ? double.Parse(rest[0]) : 300);
        switch (name)
        {
            case "quiet":
                await ChaosAsync(seconds, killEvery: null);
                break;
            case "kill":
                await ChaosAsync(seconds, TimeSpan.FromSeconds(5));
                break;
            case "stop":
                await StopAsync();
                break;
            case "restart":
                await RestartAsync(null);
                break;
            case "redis":
                await RedisAsync();
                break;
            case "route":
                await RouteAsync();
                break;
            default:
                throw new ArgumentException($"there is no 'cluster {name}'");
        }
        return 0;
    }

    private static async Task<int> HeadAsync(int port, string? membership)
    {
        await using var head = await ClusterHead.StartAsync(
            new()
            {
                Port = port,
                Membership = membership,
                Name = "benchmark",
            }
        );
        Console.WriteLine("head ready");
        await Task.Delay(Timeout.Infinite);
        return 0;
    }

    /// <summary>
    /// Runs batches of 1,000 rollouts (250 prompts of 4 samples) over 4 workers, one after another, and kills a random worker
    /// at intervals.
    /// </summary>
    private static async Task ChaosAsync(TimeSpan time, TimeSpan? killEvery)
    {
        await using var stage = await ClusterStage.SetAsync(WorkerCount);
        int kills = 0,
            batches = 0,
            lost = 0,
            twice = 0;
        long samples = 0,
            tokens = 0;

        // Kills, at intervals.
        using var end = new CancellationTokenSource();
        var killer = Task.Run(async () =>
        {
            while (killEvery is { } every && !end.IsCancellationRequested)
            {
                try
                {
                    await Task.Delay(every, end.Token);
                }
                catch (OperationCanceledException)
                {
                    return;
                }
                var ready = stage
                    .Pool.Status()
                    .Where(w => w.State is WorkerState.Ready or WorkerState.Suspect)
                    .ToArray();
                if (ready.Length == 0)
                    continue;
                Signal(ready[Random.Shared.Next(ready.Length)].ProcessId, Kill);
                kills++;
            }
        });

        // Batches, until the time is over.
        var clock = Stopwatch.StartNew();
        for (; clock.Elapsed < time; batches++)
        {
            var seen = new HashSet<(string, int)>();
            await foreach (var completion in stage.Pool.GenerateAsync(Requests(batches, 250, 4)))
            {
                if (!seen.Add((completion.RequestId, completion.SampleIndex)))
                    twice++;
                tokens += completion.Tokens.Length;
            }
            lost += 1000 - seen.Count;
            samples += seen.Count;
        }
        double seconds = clock.Elapsed.TotalSeconds;
        end.Cancel();
        await killer;
        Console.WriteLine(
            $"{(killEvery is null ? "quiet" : "kill")}: {batches} batches of 1,000 rollouts in {seconds:F0} s, "
                + $"{kills} workers killed: {lost} lost, {twice} duplicated, "
                + $"{samples / seconds:F0} rollouts/s, {tokens / seconds:F0} tokens/s"
        );
    }

    private static GenerationRequest[] Requests(int batch, int prompts, int samples, int maxTokens = 200) =>
        [
            .. Enumerable
                .Range(0, prompts)
                .Select(i => new GenerationRequest(
                    $"b{batch}-r{i}",
                    [1, 2 + i % 50, 3 + i / 50],
                    new()
                    {
                        Samples = samples,
                        MaxTokens = maxTokens,
                        Seed = (ulong)(batch * 1000 + i),
                        IgnoreEos = true,
                    }
                )),
        ];

    /// <summary>Measures how long a stopped worker stays in rotation, idle and busy.</summary>
    private static async Task StopAsync()
    {
        await using var stage = await ClusterStage.SetAsync(2);
        foreach (bool busy in new[] { false, true })
        {
            await WaitAsync(
                () => stage.Pool.Status().Count(w => w.State == WorkerState.Ready) == 2,
                "two ready workers"
            );
            var running = busy ? CountAsync(stage.Pool, Requests(busy ? 1 : 0, 200, 4)) : Task.FromResult(0);
            await Task.Delay(1000);
            int victim = stage.Pool.Status().First(w => w.State == WorkerState.Ready).ProcessId;
            Signal(victim, Stop);
            var clock = Stopwatch.StartNew();
            await WaitAsync(
                () => stage.Pool.Status().All(w => w.ProcessId != victim || w.State != WorkerState.Ready),
                "the stopped worker to be out of rotation"
            );
            double outAfter = clock.Elapsed.TotalSeconds;
            await WaitAsync(
                () => stage.Pool.Status().All(w => w.ProcessId != victim || w.State == WorkerState.Dead),
                "the stopped worker to be given up"
            );
            double givenUpAfter = clock.Elapsed.TotalSeconds;
            string arrived = busy ? $"; {await running} of 800 rollouts arrived" : "";
            Console.WriteLine(
                $"stop, {(busy ? "busy" : "idle")}: out of rotation after {outAfter:F1} s, "
                    + $"given up after {givenUpAfter:F1} s{arrived}"
            );
            Signal(victim, Continue); // the worker learns that it was declared dead, ends, and is started again
        }
    }

    /// <summary>Kills and restarts the head 20 times while rollouts run.</summary>
    private static async Task RestartAsync(string? membership)
    {
        await using var stage = await ClusterStage.SetAsync(WorkerCount, membership);

        // Rollouts, all the time.
        using var end = new CancellationTokenSource();
        long samples = 0,
            lost = 0;
        var rollouts = Task.Run(async () =>
        {
            for (int batch = 0; !end.IsCancellationRequested; batch++)
            {
                int arrived = await CountAsync(stage.Pool, Requests(batch, 10, 2, maxTokens: 100));
                samples += arrived;
                lost += 20 - arrived;
                await Task.Delay(50);
            }
        });

        // The head's deaths.
        var instances = stage.Pool.Status().Select(w => w.Instance).Order().ToArray();
        var back = new List<double>();
        for (int i = 0; i < 20; i++)
        {
            stage.KillHead();
            await Task.Delay(2000);
            await stage.StartHeadAsync();
            double seconds = await WaitForAllAsync(stage);
            back.Add(seconds);
            Console.Error.WriteLine($"round {i + 1}: back after {back[^1]:F1} s");
        }
        end.Cancel();
        await rollouts;
        bool same = stage
            .Pool.Status()
            .Where(w => w.State != WorkerState.Dead)
            .Select(w => w.Instance)
            .Order()
            .SequenceEqual(instances);
        back.Sort();
        Console.WriteLine(
            $"restart ({(membership is null ? "embedded" : "redis")}): head killed and restarted 20 times, "
                + $"all workers and the trainer back after {back[10]:F1} s (median), {back[^1]:F1} s (longest); "
                + $"{samples} rollouts in that time, {lost} lost; "
                + (same ? "the same worker processes throughout" : "WORKER PROCESSES WERE REPLACED")
        );
    }

    /// <summary>Waits until the trainer and all workers have joined the restarted head.</summary>
    /// <returns>Seconds that took.</returns>
    private static async Task<double> WaitForAllAsync(ClusterStage stage)
    {
        var clock = Stopwatch.StartNew();
        while (true)
        {
            ClusterStatus status;
            try
            {
                status = await ClusterClient.StatusAsync(stage.Address, CancellationToken.None);
            }
            catch (Exception e) when (e is IOException or TimeoutException && clock.Elapsed < Patience)
            {
                continue;
            }
            if (
                status.Trainer is { WeightVersion: >= 0 }
                && status.Workers.Count(w => w.State == "ready") == WorkerCount
                && stage.Pool.Status().Count(w => w.State == WorkerState.Ready) == WorkerCount
            )
                return clock.Elapsed.TotalSeconds;
            if (clock.Elapsed > Patience)
                throw new TimeoutException(
                    $"waited {Patience} for the workers to be back: {string.Join(", ", status.Workers)}"
                );
            await Task.Delay(100);
        }
    }

    private static async Task RedisAsync()
    {
        int port = SiloSetup.FreePort(IPAddress.Loopback, following: 1);
        string folder = Directory.CreateTempSubdirectory("simple-r1-redis-").FullName;
        using var redis = Process.Start(
            new ProcessStartInfo(
                "redis-server",
                ["--port", port.ToString(), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
            )
            {
                RedirectStandardOutput = true,
            }
        )!;
        try
        {
            while (
                await redis.StandardOutput.ReadLineAsync().WaitAsync(Patience) is { } line
                && !line.Contains("Ready to accept", StringComparison.Ordinal)
            ) { }
            _ = redis.StandardOutput.ReadToEndAsync();
            await RestartAsync($"redis://127.0.0.1:{port}");
        }
        finally
        {
            redis.Kill();
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>
    /// Measures what it costs to route requests one by one, 256 in flight, against handing them over in one batch; and where
    /// repeated prompts go.
    /// </summary>
    private static async Task RouteAsync()
    {
        await using var stage = await ClusterStage.SetAsync(WorkerCount);
        const int inFlight = 256;
        var bulk = new List<double>();
        var single = new List<double>();
        for (int round = 0; round < 30; round++)
        {
            var requests = Requests(round, inFlight, 1, maxTokens: 8);
            var clock = Stopwatch.StartNew();
            await CountAsync(stage.Pool, requests);
            double together = clock.Elapsed.TotalMilliseconds / inFlight;
            clock.Restart();
            await Task.WhenAll(requests.Select(r => CountAsync(stage.Pool, [r])));
            double alone = clock.Elapsed.TotalMilliseconds / inFlight;
            if (round < 5)
                continue; // warming up
            bulk.Add(together);
            single.Add(alone);
        }
        bulk.Sort();
        single.Sort();
        double medianAlone = single[single.Count / 2],
            medianTogether = bulk[bulk.Count / 2];
        Console.WriteLine(
            $"route: {inFlight} requests of 8 tokens in flight: {medianAlone:F3} ms a request one by one, "
                + $"{medianTogether:F3} ms in one batch; routing costs {medianAlone - medianTogether:F3} ms a request "
                + $"(medians of {bulk.Count} rounds)"
        );
        await MeasureAffinityAsync(stage);
    }

    /// <summary>Counts how many repeats of a prompt find its keys and values.</summary>
    private static async Task MeasureAffinityAsync(ClusterStage stage)
    {
        var before = stage.Pool.PrefixAffinity;

        // Groups of 8 samples that come as 8 requests each, interleaved, as clients of a server send them; 64 tokens of prompt
        // are 4 blocks of KV.
        var groups = Enumerable
            .Range(0, 64)
            .Select(g => Enumerable.Range(0, 64).Select(t => 1 + (g * 7 + t * 3) % 60).ToArray())
            .ToArray();
        int known = 0,
            cached = 0;
        for (int sample = 0; sample < 8; sample++)
            foreach (var part in groups.Chunk(32))
            {
                var requests = part.Select(
                        (prompt, i) =>
                            new GenerationRequest(
                                $"s{sample}-{i}",
                                prompt,
                                new()
                                {
                                    MaxTokens = 8,
                                    Seed = (ulong)sample,
                                    IgnoreEos = true,
                                }
                            )
                    )
                    .ToArray();
                await Task.WhenAll(
                    requests.Select(async request =>
                    {
                        await foreach (var completion in stage.Pool.GenerateAsync([request]))
                            if (sample > 0)
                            {
                                Interlocked.Increment(ref known);
                                if (completion.CachedPromptTokens > 0)
                                    Interlocked.Increment(ref cached);
                            }
                    })
                );
            }
        var (asked, hits) = (
            stage.Pool.PrefixAffinity.Known - before.Known,
            stage.Pool.PrefixAffinity.Hits - before.Hits
        );
        Console.WriteLine(
            $"affinity: {hits} of {asked} repeats went to the worker with the prompt ({100.0 * hits / asked:F1}%), "
                + $"{cached} of {known} found its keys and values there ({100.0 * cached / known:F1}%)"
        );
    }

    private static async Task<int> CountAsync(WorkerPool pool, GenerationRequest[] requests)
    {
        int count = 0;
        await foreach (var completion in pool.GenerateAsync(requests))
            count++;
        return count;
    }

    public static async Task WaitAsync(Func<bool> condition, string awaited)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); await Task.Delay(20))
            if (clock.Elapsed > Patience)
                throw new TimeoutException($"waited {Patience} for {awaited}");
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int processId, int signal);
}
