using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>Real worker processes on a tiny random model.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed partial class ClusterTests : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);
    private static readonly ModelConfig Model = ClusterSelfTest.TinyModel;

    private readonly ConcurrentQueue<string> log = [];
    private readonly FlatWeights weights = SharedWeightMemory.Allocate(new WeightLayout(Model));
    private TrainerCluster? cluster;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private ClusterOptions Options(int workers) =>
        new()
        {
            Workers = workers,
            Worker = new() { Threads = 1 },
            WorkerCommand = [.. ProgramRun.Program, "worker"],
            StartTimeout = Patience,
            Log = log.Enqueue,
        };

    private async Task<WorkerPool> StartAsync(ClusterOptions options)
    {
        weights.Flat.uniform_(-0.1, 0.1);
        cluster = await TrainerCluster.StartAsync(options, new(Model, null, new() { KvCacheBytes = 16 << 20 }), Cancel);
        return cluster.Workers;
    }

    private static GenerationRequest[] Requests(int count, int samples = 2, int tokens = 12, int more = 5) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(i => new GenerationRequest(
                    $"r{i}",
                    [1, 2, 3 + i],
                    new()
                    {
                        Samples = samples,
                        MaxTokens = tokens + more * i,
                        Seed = (ulong)i,
                        IgnoreEos = true,
                    }
                )),
        ];

    private static void RequireEachOnce(GenerationRequest[] requests, List<Completion> completions)
    {
        var expected = requests.SelectMany(r => Enumerable.Range(0, r.Sampling.Samples).Select(j => (r.Id, j))).Order();
        Assert.Equal(expected, completions.Select(c => (c.RequestId, c.SampleIndex)).Order());
        Assert.All(
            completions,
            c => Assert.Equal(requests.First(r => r.Id == c.RequestId).Sampling.MaxTokens, c.Tokens.Length)
        );
    }

    private async Task<List<Completion>> GenerateAsync(WorkerPool pool, GenerationRequest[] requests)
    {
        var completions = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, NeverEnough.Token, Cancel))
            completions.Add(completion);
        return completions;
    }

    private async Task WaitAsync(Func<bool> condition, string awaited)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            Assert.True(
                clock.Elapsed < Patience,
                $"waited {Patience.TotalSeconds} s for {awaited}; log:\n{string.Join('\n', log)}"
            );
            await Task.Delay(10, Cancel);
        }
    }

    private static bool Lives(int processId)
    {
        try
        {
            return !File.ReadLines($"/proc/{processId}/status").Any(l => l.StartsWith("State:\tZ"));
        }
        catch (Exception e) when (e is IOException)
        {
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int processId, int signal);

    private const int Kill = 9,
        Stop = 19,
        Continue = 18,
        Interrupt = 2;

    public async ValueTask DisposeAsync()
    {
        if (cluster is not null)
        {
            int[] processes = [.. cluster.Workers.Status().Select(w => w.ProcessId).Where(id => id != 0)];
            await cluster.DisposeAsync();
            Assert.DoesNotContain(processes, Lives);
        }
        weights.Dispose();
    }

    [Theory]
    [InlineData(WeightTransportChoice.Auto, "shared-memory")]
    [InlineData(WeightTransportChoice.Tcp, "tcp")]
    public async Task Rollouts_after_each_push_come_once_each_from_both_workers_with_the_pushed_version(
        WeightTransportChoice choice,
        string transport
    )
    {
        var pool = await StartAsync(Options(2) with { Transport = choice });
        await Assert.ThrowsAsync<InvalidOperationException>(() => GenerateAsync(pool, Requests(1)));
        for (int version = 0; version < 3; version++)
        {
            weights.Flat.mul_(1.25f);
            var report = await pool.PushWeightsAsync(weights, version, Cancel);
            Assert.Equal(WeightHash.Compute(weights.Pointer, weights.ByteLength), report.Hash);
            Assert.Equal([1, 2], report.Workers);
            Assert.Equal(transport, report.Transport);
            Assert.Equal(weights.ByteLength, report.Bytes);
            Assert.Empty(report.Dropped);
            var requests = Requests(10);
            var completions = await GenerateAsync(pool, requests);
            RequireEachOnce(requests, completions);
            Assert.All(completions, c => Assert.All(c.WeightVersions, v => Assert.Equal(version, v)));
        }
        Assert.All(
            pool.Status(),
            w =>
            {
                Assert.Equal(
                    (WorkerState.Ready, 2, 0L, 0),
                    (w.State, w.WeightVersion, w.OutstandingTokens, w.Replacements)
                );
                Assert.True(w.TokensPerSecond > 0, "both workers had work");
                Assert.True(w.PeakMemoryBytes > 10 << 20);
            }
        );
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => pool.PushWeightsAsync(weights, 2, Cancel));
        Assert.Empty(log);
    }

    [Fact]
    public async Task Worker_killed_in_the_middle_costs_no_sample_and_its_replacement_holds_the_current_weights()
    {
        var pool = await StartAsync(Options(2));
        await pool.PushWeightsAsync(weights, 4, Cancel);
        var first = pool.Status()[0]; // its name is its process's, its number the order in which it joined
        int victim = first.ProcessId;
        var requests = Requests(12, samples: 4, tokens: 20, more: 30);
        var completions = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, NeverEnough.Token, Cancel))
        {
            if (completions.Count == 0)
                Assert.Equal(0, Signal(victim, Kill));
            completions.Add(completion);
        }
        RequireEachOnce(requests, completions);
        Assert.Contains(log, line => line.Contains($"{first.Name} was lost") && line.Contains("SIGKILL"));
        Assert.Contains(log, line => line.Contains("unfinished requests"));
        await WaitAsync(
            () =>
                pool.Status()
                    .Any(w =>
                        w is { State: WorkerState.Ready, WeightVersion: 4, Replacements: 1 }
                        && w.Name == first.Name
                        && w.ProcessId != victim
                    ),
            "the replacement to be ready"
        );
        // Nobody was disturbed this time, and the samples are the same.
        var again = (await GenerateAsync(pool, requests)).ToDictionary(c => (c.RequestId, c.SampleIndex));
        Assert.All(completions, c => Assert.Equal(again[(c.RequestId, c.SampleIndex)].Tokens, c.Tokens));
        var report = await pool.PushWeightsAsync(weights, 5, Cancel);
        Assert.True(
            report.Workers is [1, 2],
            string.Join('\n', [.. log, .. report.Dropped, .. pool.Status().Select(w => w.ToString())])
        );
        RequireEachOnce(Requests(6), await GenerateAsync(pool, Requests(6)));
    }

    [Fact]
    public async Task Only_worker_killed_in_the_middle_is_waited_for_and_changed_weights_are_not_handed_to_its_replacement()
    {
        var pool = await StartAsync(Options(1));
        await pool.PushWeightsAsync(weights, 1, Cancel);
        var requests = Requests(4, samples: 2, tokens: 20, more: 60);
        var completions = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, NeverEnough.Token, Cancel))
        {
            if (completions.Count == 0)
                Signal(pool.Status()[0].ProcessId, Kill);
            completions.Add(completion);
        }
        RequireEachOnce(requests, completions);
        // The trainer goes on to change its weights, and the next replacement finds others than were published.
        weights.Flat.add_(1f);
        Signal(pool.Status()[0].ProcessId, Kill);
        await WaitAsync(
            () => pool.Status()[0] is { State: WorkerState.Waiting, Replacements: 2 },
            "the second replacement to wait for the next push"
        );
        Assert.Equal([1], (await pool.PushWeightsAsync(weights, 2, Cancel)).Workers);
        Assert.All(await GenerateAsync(pool, Requests(2)), c => Assert.All(c.WeightVersions, v => Assert.Equal(2, v)));
    }

    [Fact]
    public async Task Worker_that_hangs_is_replaced_and_its_samples_still_come()
    {
        var pool = await StartAsync(Options(2) with { ResponseTimeout = TimeSpan.FromSeconds(8) });
        await pool.PushWeightsAsync(weights, 0, Cancel);
        int victim = pool.Status()[1].ProcessId;
        var requests = Requests(8, samples: 2, tokens: 20, more: 40);
        var completions = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, NeverEnough.Token, Cancel))
        {
            if (completions.Count == 0)
                Signal(victim, Stop);
            completions.Add(completion);
        }
        RequireEachOnce(requests, completions);
        Assert.Contains(log, line => line.Contains("worker 2 was lost"));
        await WaitAsync(
            () => !Lives(victim) && pool.Status().All(w => w.State == WorkerState.Ready),
            "the hung process to be replaced"
        );

        victim = pool.Status()[0].ProcessId;
        Signal(victim, Stop);
        var report = await pool.PushWeightsAsync(weights, 1, Cancel);
        Assert.Equal([2], report.Workers);
        Assert.Contains("worker 1", Assert.Single(report.Dropped));
        await WaitAsync(
            () => pool.Status().All(w => w is { State: WorkerState.Ready, WeightVersion: 1 }),
            "the replacement to have caught up"
        );
    }

    [Fact]
    public async Task Push_in_the_middle_of_a_rollout_throws_no_work_away_and_marks_each_token()
    {
        var pool = await StartAsync(Options(2));
        await pool.PushWeightsAsync(weights, 0, Cancel);
        var requests = Requests(8, samples: 2, tokens: 30, more: 60);
        var completions = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, NeverEnough.Token, Cancel))
        {
            if (completions.Count == 0)
                Assert.Equal([1, 2], (await pool.PushWeightsAsync(weights, 1, Cancel)).Workers);
            completions.Add(completion);
        }
        RequireEachOnce(requests, completions);
        Assert.Contains(completions, c => c.WeightVersions.Distinct().SequenceEqual([0, 1])); // old first, then new
        Assert.Empty(log);
    }

    [Fact]
    public async Task Stream_goes_on_behind_its_last_token_when_its_worker_is_killed()
    {
        var pool = await StartAsync(Options(2));
        await pool.PushWeightsAsync(weights, 0, Cancel);
        var request = new GenerationRequest(
            "s",
            [1, 2, 3],
            new()
            {
                Samples = 2,
                MaxTokens = 120,
                Seed = 5,
                IgnoreEos = true,
                FrequencyPenalty = 0.5,
                TopLogProbs = 1,
            }
        );
        var undisturbed = await StreamAsync(kill: false);
        Assert.Equal(240, undisturbed.Count);
        var disturbed = await StreamAsync(kill: true);
        var (expected, found) = (
            undisturbed.Where(e => e.Completion is not null).OrderBy(e => e.SampleIndex).ToArray(),
            disturbed.Where(e => e.Completion is not null).OrderBy(e => e.SampleIndex).ToArray()
        );
        Assert.Equal(240, disturbed.Count);
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(expected[i].Completion!.Tokens, found[i].Completion!.Tokens);
            Assert.Equal(expected[i].Completion!.LogProbs, found[i].Completion!.LogProbs);
            Assert.Equal(expected[i].Completion!.Tokens, disturbed.Where(e => e.SampleIndex == i).Select(e => e.Token)); // each token came once
        }
        Assert.Contains(pool.Status(), w => w.Replacements == 1);

        async Task<List<TokenEvent>> StreamAsync(bool kill)
        {
            var events = new List<TokenEvent>();
            await foreach (var e in pool.StreamAsync(request, Cancel))
            {
                events.Add(e);
                if (kill && events.Count == 60)
                    Signal(pool.Status().Single(w => w.OutstandingTokens > 0).ProcessId, Kill);
            }
            return events;
        }
    }

    [Fact]
    public async Task Rollouts_that_are_broken_off_go_on_later_as_if_they_had_never_stopped()
    {
        var pool = await StartAsync(Options(2) with { QueueSamples = 6 }); // some requests wait in the pool
        await pool.PushWeightsAsync(weights, 0, Cancel);
        var requests = Requests(8, samples: 2, tokens: 20, more: 40);
        var expected = await GenerateAsync(pool, requests);
        using var enough = new CancellationTokenSource();
        var first = new List<Completion>();
        await foreach (var completion in pool.GenerateAsync(requests, enough.Token, Cancel))
        {
            first.Add(completion);
            if (first.Count == 4)
                enough.Cancel();
        }
        Assert.Equal(16, first.Count); // the rest came as it was
        var rest = requests
            .Select(r =>
                r with
                {
                    PartialSamples =
                    [
                        .. first
                            .Where(c => c.RequestId == r.Id && c.FinishReason == FinishReason.Aborted)
                            .Select(c => new PartialSample(c.SampleIndex)
                            {
                                Tokens = c.Tokens,
                                LogProbs = c.LogProbs,
                                WeightVersions = c.WeightVersions,
                            }),
                    ],
                }
            )
            .Where(r => r.Count > 0)
            .ToArray();
        Assert.Contains(rest, r => r.PartialSamples!.Any(p => p.Tokens.Length > 0));
        var second = await GenerateAsync(pool, rest);
        var found = first
            .Where(c => c.FinishReason != FinishReason.Aborted)
            .Concat(second)
            .OrderBy(c => c.RequestId)
            .ThenBy(c => c.SampleIndex)
            .ToList();
        Assert.Equal(
            expected.OrderBy(c => c.RequestId).ThenBy(c => c.SampleIndex).Select(c => string.Join(' ', c.Tokens)),
            found.Select(c => string.Join(' ', c.Tokens))
        );
        Assert.All(pool.Status(), w => Assert.Equal((0, WorkerState.Ready), ((int)w.OutstandingTokens, w.State)));
    }

    [Fact]
    public async Task Weights_that_change_during_a_push_are_an_error_and_never_sampled_from()
    {
        bool meddle = false;
        var pool = await StartAsync(
            Options(2) with
            {
                Phase = phase =>
                {
                    if (!meddle || phase != UpdatePhase.Transfer)
                        return;
                    Thread.Sleep(500); // the trainer's hash, of the weights as they were, is there by then
                    unsafe
                    {
                        ++*(int*)weights.Pointer;
                    }
                },
            }
        );
        await pool.PushWeightsAsync(weights, 0, Cancel);
        meddle = true;
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() =>
            pool.PushWeightsAsync(weights, 1, Cancel)
        );
        Assert.Contains("changed while version 1", error.Message);
        meddle = false;
        weights.Flat.uniform_(-0.1, 0.1);
        await WaitAsync(
            () => pool.Status().All(w => w is { State: WorkerState.Waiting, Replacements: 1 }),
            "new workers"
        );
        Assert.Equal([1, 2], (await pool.PushWeightsAsync(weights, 2, Cancel)).Workers);
        RequireEachOnce(Requests(3), await GenerateAsync(pool, Requests(3)));
    }

    [Fact]
    public async Task Weights_that_break_the_engine_are_an_error_with_the_engines_reason()
    {
        string folder = Directory.CreateTempSubdirectory("simple-r1-cluster-").FullName;
        var pool = await StartAsync(Options(2) with { LogFolder = folder });
        weights.Flat.fill_(float.NaN);
        await pool.PushWeightsAsync(weights, 0, Cancel);
        var error = await Assert.ThrowsAsync<WorkersLostException>(() => GenerateAsync(pool, Requests(2)));
        Assert.Contains("engine failed", error.Message);
        Assert.Contains("not finite", error.Message);
        Assert.Contains("not tried again", error.Message);
        Assert.DoesNotContain("batch", error.Message); // the worker's own names for requests stay inside
        await cluster!.DisposeAsync();
        Assert.Contains("not finite", File.ReadAllText(Path.Combine(folder, "worker-1.log")));
        Assert.True(File.Exists(Path.Combine(folder, "cluster.log")));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task Refused_request_and_cancelled_rollout_leave_the_workers_ready()
    {
        var pool = await StartAsync(Options(2));
        await pool.PushWeightsAsync(weights, 0, Cancel);
        var tooLong = Requests(3);
        tooLong[1] = tooLong[1] with { PromptTokens = new int[Model.MaxPositions + 1] };
        Assert.Contains(
            "r1",
            (await Assert.ThrowsAnyAsync<ArgumentException>(() => GenerateAsync(pool, tooLong))).Message
        );

        using var cancel = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (
                var completion in pool.GenerateAsync(
                    Requests(4, tokens: 50, more: 250),
                    NeverEnough.Token,
                    cancel.Token
                )
            )
                cancel.Cancel();
        });
        await foreach (
            var completion in pool.GenerateAsync(Requests(4, tokens: 50, more: 250), NeverEnough.Token, Cancel)
        )
            break; // the reader has seen enough
        Assert.All(pool.Status(), w => Assert.Equal((WorkerState.Ready, 0L), (w.State, w.OutstandingTokens)));

        foreach (var worker in pool.Status())
            Signal(worker.ProcessId, Interrupt); // Ctrl-C is the trainer's to handle
        var both = await Task.WhenAll(GenerateAsync(pool, Requests(5)), GenerateAsync(pool, Requests(3)));
        RequireEachOnce(Requests(5), both[0]);
        RequireEachOnce(Requests(3), both[1]);
        Assert.All(pool.Status(), w => Assert.Equal(0, w.Replacements));
    }

    [Fact]
    public async Task Deadline_that_passes_is_an_error_that_says_what_is_missing_and_leaves_the_workers_ready()
    {
        var pool = await StartAsync(Options(1));
        await pool.PushWeightsAsync(weights, 0, Cancel);
        var error = await Assert.ThrowsAsync<TimeoutException>(async () =>
        {
            await foreach (
                var completion in pool.GenerateAsync(Requests(8, tokens: 900), TimeSpan.FromMilliseconds(300), Cancel)
            ) { }
        });
        Assert.Contains("16 samples", error.Message);
        Assert.Contains("of 8 requests (r0, r1, r2, r3, r4, …)", error.Message);
        RequireEachOnce(Requests(3), await GenerateAsync(pool, Requests(3)));
        Assert.Equal((WorkerState.Ready, 0L), (pool.Status()[0].State, pool.Status()[0].OutstandingTokens));
    }

    [Fact]
    public async Task Stragglers_are_repeated_by_an_idle_worker_and_nobody_waits_for_the_worker_that_hangs()
    {
        var pool = await StartAsync(
            Options(2) with
            {
                HedgeAfter = TimeSpan.FromSeconds(1),
                ResponseTimeout = Patience,
            }
        );
        await pool.PushWeightsAsync(weights, 0, Cancel);
        int victim = pool.Status()[0].ProcessId;
        Signal(victim, Stop);
        var requests = Requests(8);
        var generating = GenerateAsync(pool, requests);
        RequireEachOnce(requests, await generating);
        Assert.True(Lives(victim), "it was given up, and not only hedged");
        Assert.Contains(log, line => line.StartsWith("worker 2 repeats"));
        Signal(victim, Continue);
        await WaitAsync(
            () => pool.Status().All(w => w is { State: WorkerState.Ready, OutstandingTokens: 0 }),
            "the worker that went on to be ready"
        );
    }

    [Fact]
    public async Task Samples_of_a_prompt_that_come_one_by_one_go_where_its_keys_and_values_are()
    {
        var pool = await StartAsync(Options(2));
        await pool.PushWeightsAsync(weights, 0, Cancel);
        int[][] prompts =
        [
            .. Enumerable
                .Range(0, 16)
                .Select(g => Enumerable.Range(0, 48).Select(t => 1 + (g * 7 + t * 3) % 60).ToArray()),
        ];
        int cached = 0,
            repeats = 0;
        for (int sample = 0; sample < 6; sample++)
            await Task.WhenAll(
                prompts.Select(
                    async (prompt, i) =>
                    {
                        var completion = Assert.Single(
                            await GenerateAsync(
                                pool,
                                [
                                    new(
                                        $"r{i}",
                                        prompt,
                                        new()
                                        {
                                            MaxTokens = 4,
                                            Seed = (ulong)sample,
                                            IgnoreEos = true,
                                        }
                                    ),
                                ]
                            )
                        );
                        if (sample == 0)
                            return;
                        Interlocked.Increment(ref repeats);
                        if (completion.CachedPromptTokens > 0)
                            Interlocked.Increment(ref cached);
                    }
                )
            );
        var (known, hits) = pool.PrefixAffinity;
        Assert.Equal((80, 80L), (repeats, known));
        Assert.True(
            hits >= 76 && cached >= 76,
            $"{hits} of {known} went to the worker with the prompt, {cached} of {repeats} found its keys and values"
        );
        Assert.All(pool.Status(), w => Assert.True(w.TokensPerSecond > 0, "both had prompts"));
    }

    [Fact]
    public async Task Worker_that_cannot_start_is_given_up_and_the_error_shows_its_last_words()
    {
        var pool = await StartAsync(
            Options(1) with
            {
                WorkerCommand = ["sh", "-c", "echo no libtorch on this machine >&2; exit 3"],
                StartAttempts = 2,
            }
        );
        var error = await Assert.ThrowsAsync<WorkersLostException>(() => pool.PushWeightsAsync(weights, 0, Cancel));
        Assert.Contains("exit code 3", error.Message);
        Assert.Contains("no libtorch on this machine", error.Message);
        Assert.Equal(WorkerState.Dead, pool.Status()[0].State);
    }

    [Fact]
    public async Task Weights_of_another_model_are_refused_before_anything_is_sent()
    {
        var pool = await StartAsync(Options(1));
        using var other = SharedWeightMemory.Allocate(new WeightLayout(Model with { Layers = 1 }));
        Assert.Contains(
            "another model",
            (await Assert.ThrowsAsync<InvalidOperationException>(() => pool.PushWeightsAsync(other, 0, Cancel))).Message
        );
    }

    [Fact]
    public async Task Head_on_a_taken_port_is_an_error_that_names_it_and_the_way_out()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        int port = ((IPEndPoint)taken.LocalEndpoint).Port;
        var error = await Assert.ThrowsAsync<IOException>(() => StartAsync(Options(1) with { Port = port }));
        Assert.Contains($"{port}", error.Message);
        Assert.Contains("or to 0", error.Message);
    }

    [Fact]
    public async Task Workers_end_when_their_parent_is_killed()
    {
        using var parent = Process.Start(
            new ProcessStartInfo(ProgramRun.Program[0], [.. ProgramRun.Program[1..], "cluster-selftest", "--keep-busy"])
            {
                RedirectStandardOutput = true,
            }
        )!;
        try
        {
            var workers = new List<int>();
            while (workers.Count < 2)
            {
                string line =
                    await parent.StandardOutput.ReadLineAsync(Cancel).AsTask().WaitAsync(Patience, Cancel)
                    ?? throw new IOException("the parent ended by itself");
                if (line.StartsWith("worker "))
                    workers.Add(int.Parse(line.Split("process ")[1].Split(',')[0]));
            }
            Assert.All(workers, id => Assert.True(Lives(id)));
            parent.Kill();
            await WaitAsync(() => !workers.Exists(Lives), "the workers to be gone");
        }
        finally
        {
            if (!parent.HasExited)
                parent.Kill();
        }
    }
}
