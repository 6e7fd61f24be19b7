using System.Diagnostics;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Worker;

/// <summary>What a worker process holds: live weights, the engine that computes with them, and the batches it was given. It outlives silos.</summary>
internal sealed class WorkerRuntime : IAsyncDisposable
{
    private const int BatchesKept = 256; // that are done: an answer may have been lost

    private readonly Lock gate = new();
    private readonly Dictionary<string, WorkerBatch> batches = [];
    private readonly Queue<string> taken = [];
    private readonly SemaphoreSlim settingUp = new(1, 1);
    private (string Session, WorkerSetup Setup, SetupReply Reply)? current;
    private readonly string device;
    private readonly int threads;
    private readonly string type;
    private EngineThread? engine;
    private (long Tokens, long At, double PerSecond) speed;

    public WorkerRuntime(string device, int threads, ClusterKey? key, string type = "bf16")
    {
        this.device = device;
        this.threads = threads;
        this.type = type;
        Weights = new(() => Running, threads, key);
    }

    /// <summary>The weights that the engine computes with, and their updates.</summary>
    public LiveWeights Weights { get; }

    private EngineThread Running => engine ?? throw new InvalidOperationException("This worker isn't set up yet");

    /// <summary>Takes no more work from now on.</summary>
    public bool Draining { get; set; }

    /// <summary>Nothing runs, and all that finished was handed over.</summary>
    public bool Idle
    {
        get
        {
            lock (gate)
                return batches.Values.All(b => b.Done);
        }
    }

    // ---- setting up

    public async Task<SetupReply> SetupAsync(SetupMessage message)
    {
        await settingUp.WaitAsync();
        try
        {
            if (current is { } known && known.Session == message.Session)
                return known.Reply; // the answer was lost
            var setup = Wire.FromJson<WorkerSetup>(message.Setup) with { TokenizerJson = message.TokenizerJson };
            if (Weights.IsPaused)
                WorkerProcess.End("another trainer takes over in the middle of a weight update");
            AbortAll();
            Weights.Forget();
            string? failure =
                current is { } former && former.Reply.Failure is null && Same(former.Setup, setup)
                    ? null
                    : await BuildAsync(setup);
            var reply = new SetupReply(
                failure,
                Environment.MachineName,
                Environment.ProcessId,
                device,
                Weights.ElementType.ToString(),
                Weights.Reach()
            );
            current = (message.Session, setup, reply);
            return reply;
        }
        finally
        {
            settingUp.Release();
        }
    }

    private static bool Same(WorkerSetup a, WorkerSetup b) =>
        Wire.ToJson(a with { TokenizerJson = null }) == Wire.ToJson(b with { TokenizerJson = null })
        && (a.TokenizerJson ?? []).AsSpan().SequenceEqual(b.TokenizerJson ?? []);

    private async Task<string?> BuildAsync(WorkerSetup setup)
    {
        try
        {
            if (engine is not null)
                await engine.DisposeAsync();
            Weights.Free();
            engine = null;
            CpuParallel.Threads = threads;
            var tokenizer = setup.TokenizerJson is { } json ? Tokenizer.FromJson(json) : null;
            tokenizer?.CheckFits(setup.Config);
            engine = new EngineThread(() =>
            {
                CpuParallel.Threads = threads; // a loop's threads belong to the thread that starts it
                var gpu = CudaDevice.Parse(device);
                var layout = new WeightLayout(setup.Config);
                var elementType = gpu is null ? ScalarType.Float32 : Tensors.ElementType.Parse(type).Scalar;
                var live = Weights.Allocate(layout, gpu, elementType);
                return new Engine(new Models.Decoder(live), tokenizer, setup.Engine);
            });
            await engine.BetweenStepsAsync(_ => true); // it stands, or says why not
            return null;
        }
        catch (Exception e)
        {
            return $"{e.GetType().Name}: {e.Message}";
        } // the trainer gives this worker up, and says why
    }

    // ---- weights

    public async Task<PrepareReply> PrepareAsync(PrepareMessage message)
    {
        bool takenOver = current?.Session != message.Session;
        if (!takenOver)
            await Weights.PrepareAsync(message);
        return new(takenOver, Weights.Version);
    }

    public Task<ReceiptMessage> ReceiveAsync(string update, int attempt, string[] invitations, TimeSpan timeout) =>
        Weights.ReceiveAsync(update, attempt, invitations, timeout);

    public void CancelTransfer(string update, int attempt) => Weights.CancelTransfer(update, attempt);

    public Task<CommitReply> CommitAsync(string update, int version) => Weights.CommitAsync(update, version);

    public Task AbandonAsync(string update) => Weights.AbandonAsync(update);

    public Task<CommitReply> HeldWeightsAsync() => Weights.HeldWeightsAsync();

    // ---- rollouts

    public SubmitReply Submit(SubmitMessage message)
    {
        lock (gate)
        {
            if (current?.Session != message.Session)
                return new(false, true, null);
            if (batches.ContainsKey(message.Batch))
                return new(false, false, null); // taken before, and the answer was lost
            if (Draining)
                return new(true, false, null);
            // While paused it is about to hold newer weights than asked for, proven ones too; each token will say which made it.
            bool same = Weights.Version == message.WeightVersion && Weights.Hash == message.WeightHash;
            if (!Weights.IsPaused && !same && Weights.Version <= message.WeightVersion)
                return new(
                    false,
                    false,
                    $"it holds weights version {Weights.Version} with hash {Weights.Hash:x16}, not version {message.WeightVersion} with hash {message.WeightHash:x16}; it can't be sampled from"
                );
            var (running, requests) = (Running, message.Requests.Select(r => r.ToRequest()).ToArray());
            var batch = new WorkerBatch(message.Batch);
            batches.Add(message.Batch, batch);
            taken.Enqueue(message.Batch);
            while (taken.Count > BatchesKept && (!batches.TryGetValue(taken.Peek(), out var old) || old.Done))
                batches.Remove(taken.Dequeue());
            _ = batch.RunAsync(running, requests, message.Stream);
            return new(false, false, null);
        }
    }

    public async Task<ProgressMessage> NextAsync(string name, int received, TimeSpan wait)
    {
        WorkerBatch? batch;
        lock (gate)
            batches.TryGetValue(name, out batch);
        if (batch is null)
            throw new InvalidOperationException($"Batch {name} is not known here");
        var answer = await batch.NextAsync(received, wait);
        return answer with
        {
            Progress = Running.Statistics.Steps,
            PeakMemory = ProcessMemory.Peak(Environment.ProcessId),
            Draining = Draining,
        };
    }

    public void Abort(string name)
    {
        WorkerBatch? batch;
        lock (gate)
            batches.Remove(name, out batch);
        batch?.Abort();
    }

    public Task BreakOffAsync(string name)
    {
        WorkerBatch? batch;
        lock (gate)
            batches.TryGetValue(name, out batch);
        return batch is null || engine is null ? Task.CompletedTask : batch.BreakOffAsync(engine);
    }

    private void AbortAll()
    {
        WorkerBatch[] all;
        lock (gate)
        {
            all = [.. batches.Values];
            batches.Clear();
            taken.Clear();
        }
        foreach (var batch in all)
            batch.Abort();
    }

    // ---- reports

    public EngineStatistics Statistics => engine?.Statistics ?? new();

    public WorkerReport Report()
    {
        var statistics = Statistics;
        long now = Stopwatch.GetTimestamp();
        double seconds = speed.At == 0 ? 0 : Stopwatch.GetElapsedTime(speed.At, now).TotalSeconds;
        double perSecond = seconds > 0 ? (statistics.SampledTokens - speed.Tokens) / seconds : 0;
        speed = (statistics.SampledTokens, now, Math.Max(0, perSecond));
        string state =
            Draining ? "draining"
            : Weights.IsPaused ? "receiving"
            : Weights.Version >= 0 ? "ready"
            : current is not null ? "waiting"
            : "joined";
        return new(
            state,
            Weights.Version,
            statistics.Running,
            statistics.Waiting,
            speed.PerSecond,
            ProcessMemory.Peak(Environment.ProcessId)
        );
    }

    public async ValueTask DisposeAsync()
    {
        AbortAll();
        if (engine is not null)
            await engine.DisposeAsync();
        Weights.Dispose();
    }
}
