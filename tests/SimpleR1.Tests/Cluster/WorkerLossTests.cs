using System.Diagnostics;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Tests.Cli;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>Worker processes that are killed, hang, or cannot start.</summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class WorkerLossTests : TrainerClusterTest
{
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
        // The trainer changes its weights in the next step, so that the next replacement finds others than were published.
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
        var noticed = TimeSpan.FromSeconds(10); // it is waited for twice; the other worker must answer in it
        var pool = await StartAsync(Options(2) with { ResponseTimeout = noticed, SilenceTimeout = noticed });
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
    public async Task Stragglers_are_repeated_by_an_idle_worker_and_nobody_waits_for_the_worker_that_hangs()
    {
        var pool = await StartAsync(Options(2) with { HedgeAfter = TimeSpan.FromSeconds(1) });
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
