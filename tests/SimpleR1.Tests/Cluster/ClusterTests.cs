using System.Net;
using System.Net.Sockets;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>Rollouts and weight updates of real worker processes.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class ClusterTests : TrainerClusterTest
{
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
    public async Task Stream_continues_after_its_last_token_when_its_worker_is_killed()
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
            var streamed = disturbed.Where(e => e.SampleIndex == i).Select(e => e.Token);
            Assert.Equal(expected[i].Completion!.Tokens, streamed); // each token came once
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
    public async Task Rollouts_that_are_cancelled_continue_later_as_if_they_had_never_stopped()
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
}
