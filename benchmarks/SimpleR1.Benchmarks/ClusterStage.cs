using System.Diagnostics;
using System.Net;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Models;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.Benchmarks;

/// <summary>A head process, workers, and a trainer that has pushed weights of a tiny random model to them.</summary>
internal sealed class ClusterStage : IAsyncDisposable
{
    private readonly FlatWeights weights = SharedWeightMemory.Allocate(new WeightLayout(ClusterSelfTest.TinyModel));
    private readonly List<WorkerMachine> machines = [];
    private readonly string? membership;
    private readonly int port;
    private Process? head;
    private TrainerCluster? cluster;

    private ClusterStage(int port, string? membership)
    {
        this.port = port;
        this.membership = membership;
    }

    public WorkerPool Pool => cluster!.Workers;
    public HeadAddress Address => new($"127.0.0.1:{port}", null);

    public static async Task<ClusterStage> SetAsync(int workers, string? membership = null)
    {
        // The head, and workers that join it.
        var stage = new ClusterStage(SiloSetup.FreePort(IPAddress.Loopback, following: 1), membership);
        stage.weights.Flat.uniform_(-0.1, 0.1);
        await stage.StartHeadAsync();
        for (int i = 1; i <= workers; i++)
            stage.machines.Add(
                WorkerMachine.Start(
                    new()
                    {
                        Head = stage.Address,
                        Name = $"w{i}",
                        Worker = new() { Threads = 1 },
                        Log = _ => { },
                    }
                )
            );

        // The trainer, with weights on every worker.
        stage.cluster = await TrainerCluster.StartAsync(
            new()
            {
                Join = stage.Address,
                Log = line => Console.Error.WriteLine($"{DateTime.Now:HH:mm:ss.f} {line}"),
                StartTimeout = ClusterBenchmark.Patience,
            },
            new(ClusterSelfTest.TinyModel, null, new() { KvCacheBytes = 64 << 20 })
        );
        var pool = stage.Pool;
        await ClusterBenchmark.WaitAsync(
            () => pool.Status().Count(w => w.State == WorkerState.Waiting) == workers,
            $"{workers} workers to join"
        );
        await pool.PushWeightsAsync(stage.weights, 0);
        return stage;
    }

    public async Task StartHeadAsync()
    {
        string[] command =
        [
            .. ThisProgram.Command,
            "head",
            port.ToString(),
            .. membership is null ? Array.Empty<string>() : [membership],
        ];
        head = Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true })!;
        if (await head.StandardOutput.ReadLineAsync().WaitAsync(ClusterBenchmark.Patience) != "head ready")
            throw new IOException("the head did not start");
    }

    public void KillHead()
    {
        head!.Kill();
        head.WaitForExit();
    }

    public async ValueTask DisposeAsync()
    {
        await cluster!.DisposeAsync();
        foreach (var machine in machines)
            await machine.DisposeAsync();
        KillHead();
        weights.Dispose();
    }
}
