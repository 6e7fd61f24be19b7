using System.Diagnostics;
using SimpleR1.Cluster.Wire;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Worker;

/// <summary>
/// What a worker process holds: live weights, the engine that computes with them, and its batches. The runtime outlives silos.
/// </summary>
internal sealed class WorkerRuntime : IAsyncDisposable
{
    private const int DoneBatchesKept = 256; // the answer to a done one may have been lost

    private readonly WorkerSettings settings;
    private readonly Lock gate = new();
    private readonly Dictionary<string, WorkerBatch> batches = [];
    private readonly Queue<string> batchOrder = [];
    private readonly SemaphoreSlim settingUp = new(1, 1);
    private (string Session, WorkerSetup Setup, SetupReply Reply)? current;
    private MappedMemory? mapped; // the trainer's, until this process ends
    private EngineThread? engine;
    private Models.Decoder? decoder; // of the engine, and freed after it
    private (long Tokens, long At, double PerSecond) speed;

    public WorkerRuntime(WorkerSettings settings, ClusterKey? key)
    {
        this.settings = settings;
        Weights = new(() => Running, settings.Threads, key);
    }

    /// <summary>The weights that the engine computes with, and their updates.</summary>
    public LiveWeights Weights { get; }

    private EngineThread Running => engine ?? throw new InvalidOperationException("This worker isn't set up yet");

    /// <summary>The worker takes no more work from now on.</summary>
    public bool Draining { get; set; }

    /// <summary>Nothing runs, and every event was handed over.</summary>
    public bool Idle
    {
        get
        {
            lock (gate)
                return batches.Values.All(b => b.Done);
        }
    }

    public async Task<MapReply> MapMemoryAsync(string memory)
    {
        await settingUp.WaitAsync();
        try
        {
            if (mapped is null && !Map(WireFormat.FromJson<TrainerMemory>(memory)))
                return new(IsOnGpu: false, Refused: null);
            return new(IsOnGpu: true, Refused: null);
        }
        catch (CudaException e)
        {
            return new(IsOnGpu: true, e.Message);
        }
        finally
        {
            settingUp.Release();
        }
    }

    /// <returns>Whether this worker computes on the trainer's GPU.</returns>
    private bool Map(TrainerMemory memory)
    {
        CudaDevice? gpu;
        try
        {
            gpu = CudaDevice.Parse(settings.Device);
        }
        catch (Exception e) when (e is CudaException or ArgumentException or DllNotFoundException)
        {
            return false; // the setup, which comes next, tells why there is no such device
        }
        if (gpu?.Uuid != memory.Pool.Gpu)
            return false;
        mapped = MappedMemory.Open(memory, gpu);
        return true;
    }

    public async Task<SetupReply> SetupAsync(SetupMessage message)
    {
        await settingUp.WaitAsync();
        try
        {
            if (current is { } known && known.Session == message.Session)
                return known.Reply; // the answer was lost

            // The former trainer's work and weights go; its engine stays where the new one wants the same.
            if (Weights.IsPaused)
                WorkerProcess.End("another trainer takes over in the middle of a weight update");
            DropAll();
            Weights.Forget();
            var setup = WireFormat.FromJson<WorkerSetup>(message.Setup) with { TokenizerJson = message.TokenizerJson };
            bool reuses =
                current is { } former
                && former.Reply.Failure is null
                && AreSame(former.Setup, setup)
                && !Weights.BorrowsMemory
                && message.Part is null;
            string? failure = reuses ? null : await BuildAsync(setup, message.Part);

            var reply = new SetupReply
            {
                Failure = failure,
                Host = Environment.MachineName,
                ProcessId = Environment.ProcessId,
                Device = settings.Device,
                ElementType = Weights.ElementType.ToString(),
                Reach = Weights.Reach(),
                MaxSequences = setup.Engine.For(settings.Device != WorkerSettings.DefaultDevice).MaxSequences,
            };
            current = (message.Session, setup, reply);
            return reply;
        }
        finally
        {
            settingUp.Release();
        }
    }

    private static bool AreSame(WorkerSetup a, WorkerSetup b) =>
        WireFormat.ToJson(a with { TokenizerJson = null }) == WireFormat.ToJson(b with { TokenizerJson = null })
        && (a.TokenizerJson ?? []).AsSpan().SequenceEqual(b.TokenizerJson ?? []);

    /// <returns>Why the engine could not be built, which the trainer logs; null when it was.</returns>
    private async Task<string?> BuildAsync(WorkerSetup setup, MemoryPart? part)
    {
        try
        {
            await FreeEngineAsync();
            Weights.Free();

            CpuParallel.Threads = settings.Threads;
            var tokenizer = setup.TokenizerJson is { } json ? Tokenizer.FromJson(json) : null;
            tokenizer?.CheckFits(setup.Config);
            engine = new EngineThread(() => BuildEngine(setup, tokenizer, part));
            await engine.BetweenStepsAsync(_ => true); // waits until the engine is built, or fails with its error

            return null;
        }
        catch (Exception e)
        {
            return $"{e.GetType().Name}: {e.Message}";
        }
    }

    private Engine BuildEngine(WorkerSetup setup, Tokenizer? tokenizer, MemoryPart? part)
    {
        CpuParallel.Threads = settings.Threads; // a loop's threads belong to the thread that starts it
        var gpu = CudaDevice.Parse(settings.Device);
        var layout = new WeightLayout(setup.Config);
        var type = gpu is null ? ScalarType.Float32 : ElementType.Parse(settings.Type).Scalar;
        var trainers = part is null ? null : mapped;
        var live =
            trainers?.WeightType == type ? Weights.Use(trainers.Weights(layout)) : Weights.Allocate(layout, gpu, type);

        decoder = new(live);
        var built = new Engine(decoder, tokenizer, setup.Engine.For(gpu is not null), trainers?.Part(part!));
        Weights.BorrowsMemory = trainers is not null;
        if (trainers is not null)
            built.Suspend(); // until the first commit lends the memory
        return built;
    }

    private async Task FreeEngineAsync()
    {
        if (engine is not null)
            await engine.DisposeAsync();
        engine = null;
        decoder?.Dispose();
        decoder = null;
    }

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

    public Task ReclaimAsync(ReclaimMessage message)
    {
        if (current?.Session != message.Session)
            throw new InvalidOperationException("Another trainer has this worker now");
        return Weights.ReclaimAsync(message);
    }

    public Task<CommitReply> HeldWeightsAsync() => Weights.HeldWeightsAsync();

    public SubmitReply Submit(SubmitMessage message)
    {
        lock (gate)
        {
            if (current?.Session != message.Session)
                return new(Draining: false, TakenOver: true, Refused: null);
            if (batches.ContainsKey(message.Batch))
                return new(Draining: false, TakenOver: false, Refused: null); // taken before, and the answer was lost
            if (Draining)
                return new(Draining: true, TakenOver: false, Refused: null);
            if (WrongWeights(message) is { } refused)
                return new(Draining: false, TakenOver: false, refused);

            var running = Running;
            GenerationRequest[] requests = [.. message.Requests.Select(r => r.ToRequest())];
            var batch = new WorkerBatch(message.Batch);
            batches.Add(message.Batch, batch);
            batchOrder.Enqueue(message.Batch);
            while (batchOrder.Count > DoneBatchesKept && IsDone(batchOrder.Peek()))
                batches.Remove(batchOrder.Dequeue());

            _ = batch.RunAsync(running, requests, message.Stream);
            return new(Draining: false, TakenOver: false, Refused: null);
        }
    }

    /// <summary>Why the requests can't be sampled from the weights held here; null when they can.</summary>
    private string? WrongWeights(SubmitMessage message)
    {
        // While paused, or without the trainer's memory, the worker is about to hold newer weights than the message asks for,
        // proven ones too. Each token will carry its version.
        bool newer = Weights.Version > message.WeightVersion;
        bool same = Weights.Version == message.WeightVersion && Weights.Hash == message.WeightHash;
        if (Weights.IsPaused || Weights.IsReclaimed || newer || same)
            return null;

        return $"it holds weights version {Weights.Version} with hash {Weights.Hash:x16}, not version {message.WeightVersion} "
            + $"with hash {message.WeightHash:x16}; it can't be sampled from";
    }

    private bool IsDone(string name) => !batches.TryGetValue(name, out var batch) || batch.Done;

    /// <exception cref="InvalidOperationException">The worker has no batch of this name.</exception>
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

    /// <summary>Stops a batch and forgets it.</summary>
    public void DropBatch(string name)
    {
        WorkerBatch? batch;
        lock (gate)
            batches.Remove(name, out batch);
        batch?.Drop();
    }

    /// <summary>Completes a batch's unfinished samples as aborted, with the tokens they have.</summary>
    public Task CancelBatchAsync(string name)
    {
        WorkerBatch? batch;
        lock (gate)
            batches.TryGetValue(name, out batch);
        return batch is null || engine is null ? Task.CompletedTask : batch.CancelAsync(engine);
    }

    private void DropAll()
    {
        WorkerBatch[] all;
        lock (gate)
        {
            all = [.. batches.Values];
            batches.Clear();
            batchOrder.Clear();
        }
        foreach (var batch in all)
            batch.Drop();
    }

    public EngineStatistics Statistics => engine?.Statistics ?? new();

    public WorkerReport Report()
    {
        var statistics = Statistics;
        long now = Stopwatch.GetTimestamp();
        double seconds = speed.At == 0 ? 0 : Stopwatch.GetElapsedTime(speed.At, now).TotalSeconds;
        double perSecond = seconds > 0 ? (statistics.SampledTokens - speed.Tokens) / seconds : 0;
        speed = (statistics.SampledTokens, now, Math.Max(0, perSecond));

        return new()
        {
            State = StateName(),
            WeightVersion = Weights.Version,
            Running = statistics.Running,
            Waiting = statistics.Waiting,
            TokensPerSecond = speed.PerSecond,
            MemoryBytes = ProcessMemory.Peak(Environment.ProcessId),
        };
    }

    private string StateName()
    {
        if (Draining)
            return "draining";
        if (Weights.IsPaused)
            return "receiving";
        if (Weights.Version >= 0)
            return "ready";

        return current is null ? "joined" : "waiting";
    }

    public async ValueTask DisposeAsync()
    {
        DropAll();
        await FreeEngineAsync();
        Weights.Dispose();
        mapped?.Dispose();
    }
}
