using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Sync;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Cluster;

/// <summary>What a worker process holds: live weights, the engine that computes with them, and the batches it was given. It outlives silos.</summary>
internal sealed class WorkerRuntime(string device, int threads, ClusterKey? key) : IAsyncDisposable
{
    private const int BatchesKept = 256; // that are done: an answer may have been lost

    private readonly Lock gate = new();
    private readonly Dictionary<string, WorkerBatch> batches = [];
    private readonly Queue<string> taken = [];
    private readonly SemaphoreSlim settingUp = new(1, 1);
    private readonly IWeightTransport[] transports = [new SharedMemoryTransport(), new TcpTransport(key: key)];
    private (string Session, WorkerSetup Setup, SetupReply Reply)? current;
    private FlatWeights? weights;
    private EngineThread? engine;
    private Pause? pause;
    private (int Version, ulong Hash) held = (-1, 0);
    private (long Tokens, long At, double PerSecond) speed;

    /// <summary>The engine's thread while it stands between two steps and waits for what to do with the weights.</summary>
    private sealed class Pause
    {
        public required string Update;
        public readonly BlockingCollection<Func<Engine, bool>> Orders = [];
        public readonly TaskCompletionSource Begun = new(TaskCreationOptions.RunContinuationsAsynchronously);
        public Task Ended = Task.CompletedTask;
        public (int Attempt, Task<ReceiptMessage> Receipt)? Received;
    }

    private EngineThread Running => engine ?? throw new InvalidOperationException("This worker isn't set up yet");

    /// <summary>Takes no more work from now on.</summary>
    public bool Draining { get; set; }

    /// <summary>Nothing runs, and all that finished was handed over.</summary>
    public bool Idle { get { lock (gate) return batches.Values.All(b => b.Done); } }

    // ---- setting up

    public async Task<SetupReply> SetupAsync(SetupMessage message)
    {
        await settingUp.WaitAsync();
        try
        {
            if (current is { } known && known.Session == message.Session) return known.Reply; // the answer was lost
            var setup = Wire.FromJson<WorkerSetup>(message.Setup) with { TokenizerJson = message.TokenizerJson };
            if (pause is not null) End("another trainer takes over in the middle of a weight update");
            AbortAll();
            held = (-1, 0);
            if (weights is not null) weights.Version = -1;
            string? failure = current is { } former && former.Reply.Failure is null && Same(former.Setup, setup) ? null : await BuildAsync(setup);
            var reply = new SetupReply(failure, Environment.MachineName, Environment.ProcessId, device);
            current = (message.Session, setup, reply);
            return reply;
        }
        finally { settingUp.Release(); }
    }

    private static bool Same(WorkerSetup a, WorkerSetup b) =>
        Wire.ToJson(a with { TokenizerJson = null }) == Wire.ToJson(b with { TokenizerJson = null }) && (a.TokenizerJson ?? []).AsSpan().SequenceEqual(b.TokenizerJson ?? []);

    private async Task<string?> BuildAsync(WorkerSetup setup)
    {
        try
        {
            if (device != "cpu") throw new NotSupportedException($"this version computes on CPUs only, and was started with --device {device}");
            if (engine is not null) await engine.DisposeAsync();
            weights?.Dispose();
            (engine, weights) = (null, null);
            CpuParallel.Threads = threads;
            var tokenizer = setup.TokenizerJson is { } json ? Tokenizer.FromJson(json) : null;
            tokenizer?.CheckFits(setup.Config);
            var live = weights = new FlatWeights(new WeightLayout(setup.Config), ScalarType.Float32, CPU);
            engine = new EngineThread(() => new Engine(new Models.Decoder(live), tokenizer, setup.Engine));
            // A loop's threads belong to the thread that starts it: the engine's thread needs the number too.
            await engine.BetweenStepsAsync(_ => CpuParallel.Threads = threads);
            return null;
        }
        catch (Exception e) { return $"{e.GetType().Name}: {e.Message}"; } // the trainer gives this worker up, and says why
    }

    // ---- weights

    /// <returns>False when another trainer has this worker now.</returns>
    public async Task<bool> PauseAsync(string session, string update, TimeSpan timeout)
    {
        if (current?.Session != session) return false;
        await PauseAsync(update, timeout);
        return true;
    }

    private Task PauseAsync(string update, TimeSpan timeout)
    {
        if (pause is { } under)
        {
            if (under.Update == update) return under.Begun.Task;
            (under.Update, under.Received) = (update, null); // an update that was broken off: its engine stays paused, and receives again
            under.Orders.Add(_ => true);
            return under.Begun.Task;
        }
        var fresh = pause = new() { Update = update };
        fresh.Ended = Running.BetweenStepsAsync(engine =>
        {
            fresh.Begun.SetResult();
            while (fresh.Orders.TryTake(out var order, timeout))
                if (!order(engine)) return true;
            // Weights that nobody vouched for must not be sampled from: no way on from here.
            End($"the engine was paused for a weight update that was neither sent nor committed within {timeout.TotalSeconds:0} s");
            return false;
        });
        return fresh.Begun.Task;
    }

    public Task<ReceiptMessage> ReceiveAsync(string update, int attempt, string[] invitations, TimeSpan timeout)
    {
        var under = Under(update);
        if (under.Received is { } known && known.Attempt == attempt) return known.Receipt;
        var received = new TaskCompletionSource<ReceiptMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
        under.Orders.Add(_ =>
        {
            received.SetResult(Receive([.. invitations.Select(Wire.FromJson<WeightInvitation>)], timeout));
            return true;
        });
        under.Received = (attempt, received.Task);
        return received.Task;
    }

    private ReceiptMessage Receive(WeightInvitation[] invitations, TimeSpan timeout)
    {
        long start = Stopwatch.GetTimestamp();
        weights!.Version = -1; // from the first byte on until the commit
        held = (-1, 0);
        foreach (var invitation in invitations)
            foreach (var transport in transports)
                if (transport.CanReceive(invitation))
                    try
                    {
                        ulong hash = transport.Receive(invitation, weights, timeout);
                        held = (-1, hash);
                        return new(hash, Stopwatch.GetElapsedTime(start).TotalSeconds, transport.Name, null);
                    }
                    catch (Exception e) when (e is IOException or TimeoutException or InvalidOperationException)
                    {
                        return new(0, Stopwatch.GetElapsedTime(start).TotalSeconds, transport.Name, e.Message);
                    }
        return new(0, 0, "none", $"this worker can follow none of the transports offered ({string.Join(", ", invitations.Select(i => i.Transport))}); "
            + "shared memory needs a trainer on the same machine, in the same container and of the same user");
    }

    public async Task CommitAsync(string update, int version)
    {
        if (pause is null && held.Version == version) return; // done before, and the answer was lost
        var under = Under(update);
        under.Orders.Add(engine =>
        {
            weights!.Version = version;
            held = held with { Version = version };
            engine.SetWeightVersion(version);
            engine.ResetPrefixCache();
            return false;
        });
        await under.Ended;
        pause = null;
    }

    public async Task AbandonAsync(string update)
    {
        if (pause is null) return; // done before, and the answer was lost
        var under = Under(update);
        under.Orders.Add(engine =>
        {
            weights!.Version = -1;
            held = (-1, 0); // no request is taken
            engine.ResetPrefixCache();
            return false;
        });
        await under.Ended;
        pause = null;
    }

    private Pause Under(string update) =>
        pause is { } under && under.Update == update ? under : throw new InvalidOperationException($"Weight update {update} is not under way here");

    private static void End(string reason)
    {
        Console.Error.WriteLine($"This worker ends: {reason}");
        WorkerProcess.EndNow(1);
    }

    // ---- rollouts

    public SubmitReply Submit(SubmitMessage message)
    {
        lock (gate)
        {
            if (current?.Session != message.Session) return new(false, true, null);
            if (batches.ContainsKey(message.Batch)) return new(false, false, null); // taken before, and the answer was lost
            if (Draining) return new(true, false, null);
            // While paused it is about to hold newer weights than asked for, proven ones too; each token will say which made it.
            if (pause is null && held != (message.WeightVersion, message.WeightHash) && held.Version <= message.WeightVersion)
                return new(false, false, $"it holds weights version {held.Version} with hash {held.Hash:x16}, not version {message.WeightVersion} with hash {message.WeightHash:x16}; it can't be sampled from");
            var (running, requests) = (Running, message.Requests.Select(r => r.ToRequest()).ToArray());
            var batch = new WorkerBatch(message.Batch);
            batches.Add(message.Batch, batch);
            taken.Enqueue(message.Batch);
            while (taken.Count > BatchesKept && (!batches.TryGetValue(taken.Peek(), out var old) || old.Done)) batches.Remove(taken.Dequeue());
            _ = batch.RunAsync(running, requests, message.Stream);
            return new(false, false, null);
        }
    }

    public async Task<ProgressMessage> NextAsync(string name, int received, TimeSpan wait)
    {
        WorkerBatch? batch;
        lock (gate) batches.TryGetValue(name, out batch);
        if (batch is null) throw new InvalidOperationException($"Batch {name} is not known here");
        var answer = await batch.NextAsync(received, wait);
        return answer with { Progress = Running.Statistics.Steps, PeakMemory = ProcessMemory.Peak(Environment.ProcessId), Draining = Draining };
    }

    public void Abort(string name)
    {
        WorkerBatch? batch;
        lock (gate) batches.Remove(name, out batch);
        batch?.Abort();
    }

    public Task BreakOffAsync(string name)
    {
        WorkerBatch? batch;
        lock (gate) batches.TryGetValue(name, out batch);
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
        foreach (var batch in all) batch.Abort();
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
        string state = Draining ? "draining" : pause is not null ? "receiving" : held.Version >= 0 ? "ready" : current is not null ? "waiting" : "joined";
        return new(state, held.Version, statistics.Running, statistics.Waiting, speed.PerSecond, ProcessMemory.Peak(Environment.ProcessId));
    }

    public async ValueTask DisposeAsync()
    {
        AbortAll();
        if (engine is not null) await engine.DisposeAsync();
        foreach (var transport in transports) transport.Dispose();
        weights?.Dispose();
    }
}
