using System.Collections.Concurrent;
using System.Diagnostics;
using System.Threading.Channels;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Sync;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Cluster;

/// <summary>What a worker process holds: live weights, the engine that computes with them, and the batches it was given.</summary>
internal sealed class WorkerRuntime : IAsyncDisposable
{
    private const int MaxReplyTokens = 1 << 18; // a reply of some megabytes

    private readonly ConcurrentDictionary<string, Batch> batches = [];
    private readonly IWeightTransport[] transports = [new SharedMemoryTransport(), new TcpTransport()];
    private FlatWeights? weights;
    private EngineThread? engine;
    private Pause? pause;

    private sealed record Batch(Channel<Completion> Finished, CancellationTokenSource Stop)
    {
        public volatile string? Rejected, Failed;
    }

    /// <summary>The engine's thread while it stands between two steps and waits for what to do with the weights.</summary>
    private sealed record Pause(BlockingCollection<Func<Engine, bool>> Orders, Task Ended);

    private EngineThread Running => engine ?? throw new InvalidOperationException("This worker isn't set up yet");

    public async Task<string?> SetupAsync(SetupMessage message)
    {
        try
        {
            var setup = Wire.FromJson<WorkerSetup>(message.Setup);
            CpuParallel.Threads = message.Threads;
            var tokenizer = message.TokenizerJson is { } json ? Tokenizer.FromJson(json) : null;
            tokenizer?.CheckFits(setup.Config);
            weights = new FlatWeights(new WeightLayout(setup.Config), ScalarType.Float32, CPU);
            engine = new EngineThread(() => new Engine(new Models.Decoder(weights), tokenizer, setup.Engine));
            // A loop's threads belong to the thread that starts it: the engine's thread needs the number too.
            await engine.BetweenStepsAsync(_ => CpuParallel.Threads = message.Threads);
            return null;
        }
        catch (Exception e) { return $"{e.GetType().Name}: {e.Message}"; } // the head ends this process, and says why
    }

    // ---- weights

    public async Task PauseAsync(TimeSpan timeout)
    {
        var paused = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var orders = new BlockingCollection<Func<Engine, bool>>();
        var ended = Running.BetweenStepsAsync(engine =>
        {
            paused.SetResult();
            while (orders.TryTake(out var order, timeout))
                if (!order(engine)) return true;
            // Weights that nobody vouched for must not be sampled from: no way on from here.
            Console.Error.WriteLine($"The engine was paused for a weight update that was neither sent nor committed within {timeout.TotalSeconds:0} s; this worker ends");
            WorkerProcess.EndNow(1);
            return false;
        });
        pause = new(orders, ended);
        await paused.Task;
    }

    public Task<ReceiptMessage> ReceiveAsync(string[] invitations, TimeSpan timeout)
    {
        var received = new TaskCompletionSource<ReceiptMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
        Order(_ =>
        {
            received.SetResult(Receive([.. invitations.Select(Wire.FromJson<WeightInvitation>)], timeout));
            return true;
        });
        return received.Task;
    }

    private ReceiptMessage Receive(WeightInvitation[] invitations, TimeSpan timeout)
    {
        long start = Stopwatch.GetTimestamp();
        weights!.Version = -1; // from the first byte on until the commit
        foreach (var invitation in invitations)
            foreach (var transport in transports)
                if (transport.CanReceive(invitation))
                    try
                    {
                        ulong hash = transport.Receive(invitation, weights, timeout);
                        return new(hash, Stopwatch.GetElapsedTime(start).TotalSeconds, transport.Name, null);
                    }
                    catch (Exception e) when (e is IOException or TimeoutException or InvalidOperationException)
                    {
                        return new(0, Stopwatch.GetElapsedTime(start).TotalSeconds, transport.Name, e.Message);
                    }
        return new(0, 0, "none", $"this worker can follow none of the transports offered ({string.Join(", ", invitations.Select(i => i.Transport))}); "
            + "shared memory needs a trainer on the same machine, in the same container and of the same user");
    }

    public async Task CommitAsync(int version)
    {
        var ended = pause?.Ended ?? throw new InvalidOperationException("No weight update is under way");
        Order(engine =>
        {
            weights!.Version = version;
            engine.SetWeightVersion(version);
            engine.ResetPrefixCache();
            return false;
        });
        await ended;
        pause = null;
    }

    private void Order(Func<Engine, bool> order) =>
        (pause ?? throw new InvalidOperationException("No weight update is under way")).Orders.Add(order);

    // ---- rollouts

    public Task SubmitAsync(string name, RequestMessage[] requests)
    {
        if (weights is not { Version: >= 0 } && pause is null) throw new InvalidOperationException("This worker holds no verified weights; it can't be sampled from");
        var batch = new Batch(Channel.CreateUnbounded<Completion>(), new());
        if (!batches.TryAdd(name, batch)) throw new InvalidOperationException($"Batch {name} was submitted before");
        // The engine wants ids that differ over all batches; the head only promises it within one.
        _ = RunAsync(name, batch, [.. requests.Select(r => r.ToRequest() with { Id = Prefix(name) + r.RequestId })]);
        return Task.CompletedTask;
    }

    private static string Prefix(string batch) => batch + '/';

    private async Task RunAsync(string name, Batch batch, GenerationRequest[] requests)
    {
        try
        {
            await foreach (var completion in Running.CompletionsAsync(requests, batch.Stop.Token))
            {
                batch.Finished.Writer.TryWrite(completion with { RequestId = completion.RequestId[Prefix(name).Length..] });
            }
        }
        catch (OperationCanceledException) when (batch.Stop.IsCancellationRequested) { }
        catch (Exception e) when (e is ArgumentException or NotSupportedException) { batch.Rejected = WithoutPrefix(e.Message); }
        catch (Exception e)
        {
            Console.Error.WriteLine(e); // the head gets the message only
            batch.Failed = WithoutPrefix(e.Message);
        }
        batch.Finished.Writer.Complete();

        string WithoutPrefix(string message) => message.Replace(Prefix(name), "", StringComparison.Ordinal);
    }

    public async Task<CompletionsMessage> NextAsync(string name, TimeSpan wait)
    {
        if (!batches.TryGetValue(name, out var batch)) throw new InvalidOperationException($"Batch {name} is not known here");
        using var deadline = new CancellationTokenSource(wait);
        var reader = batch.Finished.Reader;
        try { await reader.WaitToReadAsync(deadline.Token); }
        catch (OperationCanceledException) { } // nothing finished yet: an empty answer shows that this worker lives
        var finished = new List<CompletionMessage>();
        for (int tokens = 0; tokens < MaxReplyTokens && reader.TryRead(out var completion); tokens += completion.Tokens.Length)
            finished.Add(CompletionMessage.From(completion));
        if (reader.Completion.IsCompleted) batches.TryRemove(name, out _);
        return new([.. finished], batch.Rejected, batch.Failed, Running.Statistics.Steps, ProcessMemory.Peak(Environment.ProcessId));
    }

    public Task AbortAsync(string name)
    {
        if (batches.TryRemove(name, out var batch)) batch.Stop.Cancel();
        return Task.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        if (engine is not null) await engine.DisposeAsync();
        foreach (var transport in transports) transport.Dispose();
        weights?.Dispose();
    }
}
