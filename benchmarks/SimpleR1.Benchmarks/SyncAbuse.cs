using System.Diagnostics;
using System.Runtime.InteropServices;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.WeightSync;

namespace SimpleR1.Benchmarks;

/// <summary>
/// Disturbs weight updates of real worker processes: kills, stops and adds workers in every phase, damages weights that have
/// arrived, and lets workers claim what is not so. After each update every live worker hashes its weights: they must be the
/// trainer's, and no sample may carry another version.
/// </summary>
internal sealed partial class SyncAbuse : SyncAbuseCluster
{
    private const int Kill = 9,
        Stop = 19;

    private readonly TextWriter output;
    private readonly List<SyncReport> undisturbed = [];

    private SyncAbuse(SyncAbuseWorkers workers, TextWriter output)
        : base(workers) => this.output = output;

    /// <param name="arguments">
    /// Kills, stops, joiners (100, 50 and 20); and for NCCL between GPUs the workers' number, their devices, the trainer's, and a
    /// model's shape: <c>2 cuda:1,cuda:2 cuda:0 qwen2.5-0.5b</c>.
    /// </param>
    public static async Task<int> RunAsync(TextWriter output, string[] arguments)
    {
        int Count(int at, int otherwise) => arguments.Length > at ? int.Parse(arguments[at]) : otherwise;
        SyncAbuseWorkers[] all = arguments is [_, _, _, _, var device, var sendDevice, .. var shape]
            ?
            [
                new(
                    WeightTransportChoice.Nccl,
                    Count(3, 0),
                    device,
                    sendDevice,
                    shape is [var name] ? NamedShapes.Get(name) : null
                ),
            ]
            : [new(WeightTransportChoice.SharedMemory), new(WeightTransportChoice.Tcp)];
        foreach (var workers in all)
            await RunAsync(output, workers, new(Count(0, 100), Count(1, 50), Count(2, 20), Damages: 3, Claims: 3));
        return 0;
    }

    /// <exception cref="InvalidOperationException">A check failed; the message has the log.</exception>
    public static async Task RunAsync(TextWriter output, SyncAbuseWorkers workers, SyncAbuseCounts counts)
    {
        int[] processes;
        string memory;
        await using (var abuse = new SyncAbuse(workers, output))
        {
            await abuse.StartAsync();
            await abuse.LoseAsync("killed", Kill, counts.Kills);
            await abuse.LoseAsync("stopped", Stop, counts.Stops);
            await abuse.JoinersAsync(counts.Joiners);
            await abuse.FaultyAsync("damage", counts.Damages);
            await abuse.FaultyAsync("claim", counts.Claims);
            await abuse.SecondTrainerAsync();
            memory = File.ReadLines("/proc/self/maps")
                .First(l => l.StartsWith($"{abuse.Weights.Pointer:x}-", StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[5];
            processes = [.. abuse.Pool.Status().Select(w => w.ProcessId)];
        }
        RequireNothingLeft(processes, memory);
        await output.WriteLineAsync($"{workers.Transport}: nothing is left over");
    }

    /// <param name="memory">The name of the shared memory with the weights.</param>
    private static void RequireNothingLeft(int[] processes, string memory)
    {
        foreach (int process in processes)
            Require(
                !Directory.Exists($"/proc/{process}") || File.ReadAllText($"/proc/{process}/stat").Contains(") Z"),
                $"process {process} is left over"
            );
        Require(
            !Directory.GetFiles("/proc/self/fd").Any(f => new FileInfo(f).LinkTarget?.Contains(memory) == true)
                && !File.ReadAllText("/proc/self/maps").Contains(memory),
            "shared memory is left over"
        );
        Require(!Directory.GetFiles("/dev/shm").Any(f => f.Contains("simple-r1")), "shared-memory files are left over");
    }

    private TimeSpan Limit => TimeSpan.FromSeconds(Workers.Count > 1 ? 10 : 20); // the only worker's replacement must start first

    /// <param name="Armed">The phase in which the worker was lost.</param>
    /// <param name="Named">The report names the worker as dropped.</param>
    private sealed record Loss(UpdatePhase Armed, bool Named, string Outcome);

    /// <summary>Loses a worker at a random moment of a phase, each phase in turn.</summary>
    private async Task LoseAsync(string what, int signal, int count)
    {
        var phases = Enum.GetValues<UpdatePhase>();
        var losses = new List<Loss>();
        double longest = 0;
        for (int i = 0; i < count; i++)
        {
            await PushUndisturbedAsync();
            var victim = Pool.Status().Where(w => w.State == WorkerState.Ready).ElementAt(Random.Next(Workers.Count));
            var phase = phases[i % phases.Length];
            double delay = 1.2 * Random.NextDouble() * MedianSeconds(phase);
            Armed = (phase, () => SignalAfter(delay, victim.ProcessId, signal));
            var report = await PushAsync();
            longest = Math.Max(longest, Took.TotalSeconds);
            Require(Took < Limit, $"an update with a worker {what} took {Took.TotalSeconds:0.0} s");
            Require(
                report.Dropped.Count == 0
                    || report.Dropped.Count == 1
                        && report.Dropped[0].Contains(victim.Name)
                        && report.Dropped[0].Contains("phase"),
                $"dropped: {string.Join("; ", report.Dropped)}, expected {victim.Name} at most"
            );
            bool named = report.Dropped.Count > 0;
            string outcome = named ? "named in " + Lower(NamedPhase(report.Dropped[0])) : "after the update's end";
            losses.Add(new(phase, named, outcome));
            await WaitAsync(
                () => Pool.Status().All(w => w.ProcessId != victim.ProcessId || w.State == WorkerState.Dead),
                $"{victim.Name} to be replaced"
            );
            Progress(what, i + 1, count);
        }
        if (count > 0)
            await ReportAsync(what, losses, longest);
    }

    /// <summary>Updates all workers with nothing done to them, which shows how long each phase takes.</summary>
    private async Task PushUndisturbedAsync()
    {
        await WaitAsync(
            () => Pool.Status().Count(w => w.State == WorkerState.Ready) == Workers.Count,
            "all workers to be there again"
        );
        await PushAsync(); // where workers form a group, it is formed here
        undisturbed.Add(await PushAsync());
        Require(
            undisturbed[^1].Dropped.Count == 0,
            $"an update that nothing was done to dropped {string.Join("; ", undisturbed[^1].Dropped)}"
        );
    }

    private async Task ReportAsync(string what, List<Loss> losses, double longest)
    {
        await output.WriteLineAsync(
            $"{Workers.Transport}: {losses.Count} updates with a worker {what}: {losses.Count(l => l.Named)} were lost before the "
                + $"update had ended, all others proved the trainer's weights; the longest update took {longest:0.0} s"
        );
        foreach (var armedFor in losses.GroupBy(l => l.Armed))
            await output.WriteLineAsync(
                $"  {what} in {Lower(armedFor.Key)} (0 to {1.2e3 * MedianSeconds(armedFor.Key):0.00} ms after its start): "
                    + $"{armedFor.Count()}; "
                    + string.Join(", ", armedFor.CountBy(l => l.Outcome).Select(c => $"{c.Value} {c.Key}"))
            );
    }

    private static UpdatePhase NamedPhase(string dropped) =>
        Enum.GetValues<UpdatePhase>().First(p => dropped.Contains($"in the {Lower(p)} phase"));

    private static string Lower(UpdatePhase phase) => phase.ToString().ToLowerInvariant();

    private double MedianSeconds(UpdatePhase phase) =>
        undisturbed
            .Select(report =>
                phase switch
                {
                    UpdatePhase.Prepare => report.PrepareSeconds,
                    UpdatePhase.Transfer => report.TransferSeconds,
                    UpdatePhase.Verify => report.VerifySeconds,
                    _ => report.CommitSeconds,
                }
            )
            .Order()
            .ElementAt(undisturbed.Count / 2);

    /// <summary>Signals to the fraction of a millisecond, because phases of a tiny model are that short.</summary>
    private static void SignalAfter(double seconds, int process, int signal)
    {
        long start = Stopwatch.GetTimestamp();
        new Thread(() =>
        {
            for (double left = seconds; left > 0; left = seconds - Stopwatch.GetElapsedTime(start).TotalSeconds)
                Thread.Sleep(left > 0.003 ? 1 : 0);
            Signal(process, signal);
        })
        {
            IsBackground = true,
        }.Start();
    }

    private void Progress(string what, int done, int of)
    {
        if (done % 10 == 0)
            Console.Error.WriteLine($"{Workers.Transport}: {done} of {of} {what}");
    }

    private async Task JoinersAsync(int count)
    {
        for (int i = 0; i < count; i++)
        {
            await using var joiner = Extra($"joiner-{i}", "worker");
            for (
                int pushes = 0;
                Pool.Status().FirstOrDefault(w => w.Name == $"joiner-{i}") is not { State: WorkerState.Ready };
                pushes++
            )
            {
                Require(pushes < 2000, $"joiner {i} did not become ready");
                await PushAsync(verify: false);
                await Task.Delay(Random.Next(30));
            }
            await PushAsync();
            Require(
                Pool.Status().First(w => w.Name == $"joiner-{i}").WeightVersion == Version,
                "the joiner holds another version"
            );
            Progress("joined", i + 1, count);
        }
        await WaitAsync(
            () => Pool.Status().Count(w => w.State == WorkerState.Ready) == Workers.Count,
            "the joiners to be gone"
        );
        await output.WriteLineAsync(
            $"{Workers.Transport}: {count} workers joined between and during updates; each held the current weights before it served"
        );
    }

    /// <summary>Adds workers that change a byte after it has arrived (once), or answer a commit with another version.</summary>
    private async Task FaultyAsync(string fault, int count)
    {
        for (int i = 0; i < count; i++)
        {
            string name = $"{fault}-{i}";
            await using var faulty = Extra(name, "faulty-worker", fault);
            if (fault == "damage")
            {
                await WaitAsync(
                    () => Pool.Status().Any(w => w.Name == name && w.State == WorkerState.Ready),
                    $"{name} to be ready"
                );
                Require(
                    Logged($"{name}: weights version") && Logged("sending them again"),
                    "the damage was not noticed"
                );
                await PushAsync();
            }
            else
                await WaitAsync(
                    () => Logged($"{name} was lost") && Logged("it says that it holds weights version"),
                    $"{name} to be refused"
                );
        }
        await WaitAsync(
            () => Pool.Status().Count(w => w.State == WorkerState.Ready) == Workers.Count,
            "the faulty workers to be gone"
        );
        await output.WriteLineAsync(
            fault == "damage"
                ? $"{Workers.Transport}: {count} damaged bytes were caught by the hash, named, and sent again"
                : $"{Workers.Transport}: {count} workers that said they held another version were refused"
        );
    }

    private async Task SecondTrainerAsync()
    {
        try
        {
            await using var second = await TrainerCluster.StartAsync(
                new()
                {
                    Join = new(Cluster.Join, null),
                    Name = "second",
                    Log = _ => { },
                },
                new(Workers.Model, null, new())
            );
        }
        catch (IOException e)
        {
            Require(e.Message.Contains("has the workers"), e.Message);
            await PushAsync();
            await output.WriteLineAsync($"{Workers.Transport}: a second trainer was refused: {e.Message}");
            return;
        }
        Require(false, "a second trainer was let in");
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int processId, int signal);
}
