using System.Runtime.InteropServices;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.WeightSync;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu.Placement;

/// <summary>
/// Workers that are killed in each state of the memory that they share with the trainer: no wrong sample, no lost step,
/// and the trainer's memory is its own. SIMPLE_R1_KILLS is how often in each state.
/// </summary>
[Collection("GPU"), Trait("Category", "Gpu"), Trait("Category", "GpuProcesses")]
public sealed partial class ColocatedLossTests() : ColocationTest(ScalarType.Float32)
{
    private const int Workers = 2;
    private int victim;
    private WorkerPool? armed;
    private UpdatePhase when;

    private static int Kills => int.TryParse(Environment.GetEnvironmentVariable("SIMPLE_R1_KILLS"), out int n) ? n : 3;

    [Fact]
    public async Task Workers_killed_in_any_state_of_the_memory_cost_no_sample_and_no_step()
    {
        var memory = new ColocatedMemory(weights, pool);
        await using var cluster = await StartAsync(Options(Workers, memory) with { Phase = KillInUpdate });
        var workers = cluster.Workers;
        int version = 0;
        await workers.PushWeightsAsync(weights, version, Cancel);
        for (int round = 0; round < Kills; round++)
        {
            // Lent and generating.
            bool first = true;
            var requests = Requests(version);
            var found = await GenerateAsync(workers, requests, _ => KillOnce(workers, ref first));
            AssertSame(Ordinary(requests), found, version);

            await KillWhileReclaimedAsync(workers, memory);

            // During the update.
            when = (UpdatePhase)(round % 4);
            armed = workers;
            var report = await workers.PushWeightsAsync(weights, ++version, Cancel);
            Assert.Equal(WeightHash.Of(host, Type), report.Hash);
            Assert.Null(armed);
        }

        // All are back, and hold what the trainer holds.
        await WaitAsync(() => workers.Status().Count(w => w.State == WorkerState.Ready) == Workers, "all workers");
        Assert.Equal(3 * Kills, workers.Status().Sum(w => w.Replacements));
        Assert.All(
            await workers.HeldWeightsAsync(Cancel),
            held => Assert.Equal((version, WeightHash.Of(host, Type)), (held.Version, held.Hash))
        );
        TestContext.Current.TestOutputHelper?.WriteLine(string.Join('\n', log));
    }

    /// <summary>Reclaimed, and in use by the trainer.</summary>
    private async Task KillWhileReclaimedAsync(WorkerPool workers, ColocatedMemory memory)
    {
        await workers.ReclaimMemoryAsync(Cancel);
        UsePool(memory);
        await WaitAsync(() => Alive(workers).Length > 0, "a worker to kill"); // all may have died since they generated
        int killed = Kill(workers);
        ChangeWeights();
        await WaitAsync(() => IsReplaced(workers, killed), "a replacement to have built its engine");
        AssertPoolIsIntact(memory);
        Assert.Equal(WeightHash.Of(host, Type), WeightHash.Of(weights));
        Assert.DoesNotContain(workers.Status(), w => w.State == WorkerState.Ready); // the joiner waits too
    }

    private void KillOnce(WorkerPool workers, ref bool first)
    {
        if (first)
            Kill(workers);
        first = false;
    }

    /// <summary>Kills the workers in turns, of those that have come up.</summary>
    /// <returns>Its process.</returns>
    private int Kill(WorkerPool workers)
    {
        var alive = Alive(workers);
        int process = alive[victim++ % alive.Length].ProcessId;
        Assert.Equal(0, Signal(process, 9));
        return process;
    }

    private static WorkerStatus[] Alive(WorkerPool workers) =>
        [.. workers.Status().Where(w => w.State is not (WorkerState.Dead or WorkerState.Joining))];

    private void KillInUpdate(UpdatePhase phase)
    {
        if (phase == when && Interlocked.Exchange(ref armed, null) is { } workers)
            Kill(workers);
    }

    private static bool IsReplaced(WorkerPool workers, int killed) =>
        workers.Status() is { Count: Workers } all
        && all.All(w => w.ProcessId != killed && w.State == WorkerState.Waiting);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int processId, int signal);
}
