using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using SimpleR1.Benchmarks;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

public sealed partial class NcclTests
{
    /// <summary>
    /// When the process gets which signal (9 is SIGKILL, 19 is SIGSTOP), whether NCCL waits forever instead of noticing,
    /// and whether the weights are on a GPU.
    /// </summary>
    public static readonly TheoryData<string, int, bool, bool> Losses = new()
    {
        { nameof(UpdatePhase.Transfer), 9, false, false },
        { nameof(UpdatePhase.Transfer), 9, true, true },
        { nameof(UpdatePhase.Transfer), 19, true, false },
        { nameof(UpdatePhase.Prepare), 9, true, true },
        { nameof(UpdatePhase.Verify), 9, false, false },
        { nameof(UpdatePhase.Commit), 9, false, true },
        { nameof(UpdatePhase.Commit), 19, false, false },
    };

    /// <summary>
    /// Once <see cref="Arm"/>ed, sends a signal to the second worker's process when an update enters a phase.
    /// </summary>
    private sealed class Attack(UpdatePhase when, int signal)
    {
        private WorkerPool? armed;

        public WorkerStatus? Victim { get; private set; }

        public void Arm(WorkerPool pool) => armed = pool;

        public void Enter(UpdatePhase phase)
        {
            if (phase != when || Interlocked.Exchange(ref armed, null) is not { } pool)
                return;
            var victim = pool.Status()[1];
            Victim = victim;
            if (phase == UpdatePhase.Transfer)
                _ = Task.Delay(150).ContinueWith(_ => Signal(victim.ProcessId, signal), TaskScheduler.Default);
            else
            {
                _ = Signal(victim.ProcessId, signal);
                Assert.True(
                    SpinWait.SpinUntil(() => HasStopped(victim.ProcessId), Long),
                    "waited for the signal to act"
                );
            }
        }

        /// <summary>On a busy machine a process still answers after a signal was sent: each thread stops by itself.</summary>
        private static bool HasStopped(int process)
        {
            try
            {
                return Directory
                    .GetDirectories($"/proc/{process}/task")
                    .Select(thread => File.ReadAllText(Path.Combine(thread, "stat")))
                    .All(status => status[status.LastIndexOf(')') + 2] is 'T' or 'Z' or 'X');
            }
            catch (IOException)
            {
                return true; // it is gone
            }
        }
    }

    [Theory, MemberData(nameof(Losses))]
    public async Task Worker_process_lost_in_any_phase_is_named_and_the_others_finish_in_a_new_group(
        string when,
        int signal,
        bool silent,
        bool sourceOnGpu
    )
    {
        var gpu = Require();
        using var host = Gpu.TinyWeights();
        using var weights = sourceOnGpu
            ? new FlatWeights(host.Layout, ScalarType.BFloat16, gpu.WithOwnStream())
            : Gpu.TinyWeights();
        var log = new ConcurrentQueue<string>();
        var attack = new Attack(Enum.Parse<UpdatePhase>(when), signal);
        Set("EMULATED_NCCL_DELAY_US", "300000");
        if (silent)
            Set("EMULATED_NCCL_SILENT", "1");
        try
        {
            await using var cluster = await StartThreeAsync(log, attack.Enter, SilenceTimeout(signal));
            var pool = cluster.Workers;
            Change(host, weights);
            var first = await pool.PushWeightsAsync(weights, 0, Cancel);
            Assert.Equal(("nccl", 3), (first.Transport, first.Workers.Count));
            Change(host, weights);
            attack.Arm(pool);
            var report = await PushInTimeAsync(pool, weights, log);
            AssertOnlyVictimIsDropped(report, attack.Victim, when, log);
            ulong hash = WeightHash.Of(host, ScalarType.BFloat16);
            Assert.Equal((hash, "nccl"), (report.Hash, report.Transport));
            Assert.All(
                await pool.HeldWeightsAsync(Cancel),
                holds => Assert.Equal((1, hash), (holds.Version, holds.Hash))
            );
            if ((when, signal) == (nameof(UpdatePhase.Transfer), 9))
                // What is sent to a stopped process waits in sockets, and the others may have had theirs.
                Assert.Contains(log, line => line.Contains("form a new group"));
            await AssertGeneratesAsync(pool);
            await WaitForReplacementAsync(pool, log);
        }
        finally
        {
            Set("EMULATED_NCCL_DELAY_US", null);
            Set("EMULATED_NCCL_SILENT", null);
        }
    }

    /// <summary>
    /// A stopped process shows by its silence only, so that the test waits for as long; the end of a killed one is
    /// seen at once. The workers that must not be dropped are slow to answer where the machine is busy.
    /// </summary>
    private static TimeSpan SilenceTimeout(int signal) => signal == 19 ? TimeSpan.FromSeconds(10) : Long;

    private static Task<TrainerCluster> StartThreeAsync(
        ConcurrentQueue<string> log,
        Action<UpdatePhase> phase,
        TimeSpan silence
    ) =>
        TrainerCluster.StartAsync(
            new()
            {
                Workers = 3,
                Worker = new() { Device = "cuda", Threads = 1 },
                SendDevice = "cuda",
                Transport = WeightTransportChoice.Nccl,
                Log = log.Enqueue,
                SilenceTimeout = silence,
                ResponseTimeout = Long,
                StartTimeout = Long,
                WorkerCommand = [.. ProgramRun.Program, "worker"],
                Phase = phase,
            },
            new(Gpu.TinyConfig, null, new() { KvCacheBytes = 1 << 20, MaxContext = 64 }),
            Cancel
        );

    /// <summary>Changes the weights on the host, and what is sent: the same, or its copy on the GPU.</summary>
    private static void Change(FlatWeights host, FlatWeights sent)
    {
        host.Flat.mul_(1.25f);
        if (sent.Device is not { } gpu)
        {
            sent.Flat.copy_(host.Flat);
            return;
        }
        using var copy = host.CopyTo(gpu, ScalarType.BFloat16);
        gpu.CopyWithin(copy.Pointer, sent.Pointer, sent.ByteLength);
        gpu.Synchronize(); // before the copy is freed
    }

    private static async Task<SyncReport> PushInTimeAsync(
        WorkerPool pool,
        FlatWeights weights,
        ConcurrentQueue<string> log
    )
    {
        var clock = Stopwatch.StartNew();
        var report = await pool.PushWeightsAsync(weights, 1, Cancel);
        Assert.True(
            clock.Elapsed < Long, // by NCCL alone it would take half of SyncTimeout: 150 s
            $"the update took {clock.Elapsed.TotalSeconds:0.0} s\n{string.Join('\n', log)}"
        );
        return report;
    }

    private static void AssertOnlyVictimIsDropped(
        SyncReport report,
        WorkerStatus? victim,
        string when,
        ConcurrentQueue<string> log
    )
    {
        string phase = when == nameof(UpdatePhase.Verify) ? "(verify|commit)" : when.ToLowerInvariant();
        Assert.True(
            report.Workers.SequenceEqual([1, 3])
                && report.Dropped.Count == 1
                && report.Dropped[0].Contains(victim!.Name)
                && Regex.IsMatch(report.Dropped[0], $"in the {phase} phase"),
            string.Join('\n', [.. log, .. report.Dropped])
        );
    }

    /// <summary>All samples of a request come, from the weights of version 1.</summary>
    private static async Task AssertGeneratesAsync(WorkerPool pool)
    {
        var sampling = new SamplingParameters
        {
            Samples = 4,
            MaxTokens = 4,
            IgnoreEos = true,
        };
        int count = 0;
        await foreach (var completion in pool.GenerateAsync([new("r", [1, 2], sampling)], NeverEnough.Token, Cancel))
        {
            Assert.All(completion.WeightVersions, v => Assert.Equal(1, v));
            count++;
        }
        Assert.Equal(4, count);
    }

    private static async Task WaitForReplacementAsync(WorkerPool pool, ConcurrentQueue<string> log)
    {
        for (
            var patience = Stopwatch.StartNew();
            !pool.Status().All(w => w is { State: WorkerState.Ready, WeightVersion: 1 });
            await Task.Delay(50, Cancel)
        )
            Assert.True(
                patience.Elapsed < Long,
                "waited for the replacement to hold the weights\n" + string.Join('\n', log)
            );
    }

    [Fact]
    public async Task Worker_whose_gpu_is_in_the_group_already_gets_the_weights_another_way_or_is_dropped_with_the_reason()
    {
        Require();
        using var weights = Gpu.TinyWeights();
        Set("EMULATED_ONE_GPU", "1");
        try
        {
            foreach (var transport in (WeightTransportChoice[])[WeightTransportChoice.Auto, WeightTransportChoice.Nccl])
            {
                await using var cluster = await TrainerCluster.StartAsync(
                    new()
                    {
                        Workers = 2,
                        Worker = new() { Device = "cuda", Threads = 1 },
                        SendDevice = "cuda",
                        Transport = transport,
                        Log = _ => { },
                        WorkerCommand = ["env", "NCCL_HOSTID=another", .. ProgramRun.Program, "worker"],
                        SilenceTimeout = Long,
                    },
                    new(Gpu.TinyConfig, null, new() { KvCacheBytes = 1 << 20, MaxContext = 64 }),
                    Cancel
                );
                var report = await cluster.Workers.PushWeightsAsync(weights, 0, Cancel);
                if (transport == WeightTransportChoice.Auto)
                    Assert.Equal(
                        ("nccl, shared-memory", 2),
                        (string.Join(", ", report.Transport.Split(", ").Order()), report.Workers.Count)
                    );
                else
                {
                    Assert.Equal(("nccl", 1), (report.Transport, report.Workers.Count));
                    Assert.Contains("takes each GPU once", Assert.Single(report.Dropped));
                }
            }
        }
        finally
        {
            Set("EMULATED_ONE_GPU", null);
        }
    }

    /// <summary>
    /// On a real GPU by the real NCCL: each process says that it is on a separate host, and what they send goes
    /// through sockets.
    /// </summary>
    [Fact]
    public async Task Updates_by_nccl_survive_what_is_done_to_workers()
    {
        Gpu.Require();
        var said = new StringWriter();
        await SyncAbuse.RunAsync(
            said,
            new(WeightTransportChoice.Nccl, Count: 2, "cuda", "cuda"),
            CudaLibraries.Emulated
                ? new(Kills: 1, 0, 0, Damages: 1, Claims: 1)
                : new(Kills: 8, Stops: 1, Joiners: 2, Damages: 1, Claims: 1)
        );
        TestContext.Current.TestOutputHelper?.WriteLine(said.ToString());
        Assert.Contains("nothing is left over", said.ToString());
    }

    /// <summary>For the stand-in in this process, which is rank 0, and in the processes it starts.</summary>
    internal static void Set(string name, string? value)
    {
        Environment.SetEnvironmentVariable(name, value);
        _ = value is null ? unsetenv(name) : setenv(name, value, 1);
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int unsetenv(string name);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int processId, int signal);
}
