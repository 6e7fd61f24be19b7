using System.Net;
using System.Runtime.CompilerServices;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer.Rollouts;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Cluster.Wire;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Trainer;

/// <summary>
/// The workers as the trainer uses them: prompts in, completions out as they finish, weights to all. Workers may come, leave and
/// die at any time; that costs time, never a sample.
/// </summary>
public sealed class WorkerPool : IRolloutWorkers, IProcessOwner, IAsyncDisposable
{
    private static readonly TimeSpan DeadShownFor = TimeSpan.FromMinutes(1);

    private readonly ClusterOptions options;
    private readonly WorkerSetup setup;
    private readonly WorkerList workers;
    private readonly WeightPublisher publisher;
    private readonly RolloutDispatcher dispatcher;
    private readonly string session = Guid.NewGuid().ToString("N")[..12];
    private readonly CancellationTokenSource stopping = new();
    private readonly Lock gate = new();
    private ClusterSilo? silo;

    /// <param name="address">This machine's address, by which workers reach it for weights.</param>
    internal WorkerPool(ClusterOptions options, WorkerSetup setup, IPAddress address, ClusterKey? key)
    {
        this.options = options;
        this.setup = setup;
        var router = new Router();
        workers = new(options, stopping.Token);
        publisher = new(workers, setup, options, Transports(options, address, key))
        {
            Published = router.Forget, // the workers' cached prefixes were of the old weights
        };
        dispatcher = new(workers, publisher, router, options);
    }

    private static IReadOnlyList<IWeightTransport> Transports(
        ClusterOptions options,
        IPAddress address,
        ClusterKey? key
    ) =>
        WeightTransports.ForTrainer(
            new()
            {
                Choice = options.Transport,
                Address = address,
                Key = key,
                Delta = options.Delta,
                HasSendGpus = options.SendDevice is not null,
                SendGpus = () => SendGpus(options.SendDevice ?? "cuda"),
                NcclTimeout = options.SyncTimeout / 2,
            }
        );

    private static IReadOnlyList<CudaDevice> SendGpus(string device) =>
        [.. WorkerDevices.ExpandGpus(device).Select(CudaDevice.Parse).OfType<CudaDevice>()];

    /// <summary>All workers, by number.</summary>
    public IReadOnlyList<WorkerStatus> Status() => [.. workers.All.Select(w => w.Status)];

    /// <summary>Version of the weights that were pushed last; -1 before the first.</summary>
    public int Version => publisher.Current?.Version ?? -1;

    /// <inheritdoc cref="RolloutDispatcher.PrefixAffinity"/>
    public (long Known, long Hits) PrefixAffinity => dispatcher.PrefixAffinity;

    /// <inheritdoc/>
    public IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken enough = default,
        CancellationToken cancellation = default
    ) => GenerateAsync(requests, null, enough, cancellation);

    /// <summary>
    /// Completes every request on the workers and yields each sample once, as it finishes. Requests go out in order, to the workers
    /// that the router chooses, as far as those have room. What a lost worker had not finished goes out again. Leaving the loop, or
    /// cancelling, aborts what still runs.
    /// </summary>
    /// <param name="deadline">Time for all requests; null waits as long as workers make progress.</param>
    /// <param name="enough">
    /// When cancelled, unfinished samples come as aborted, with the tokens they have. As a <see cref="PartialSample"/> each can
    /// continue later. Their texts may be empty.
    /// </param>
    /// <exception cref="ArgumentException">A request can't be served (it is too long for the context, for example).</exception>
    /// <exception cref="InvalidOperationException">No weights were pushed yet, or no worker can be brought up again.</exception>
    /// <exception cref="TimeoutException">
    /// No worker became ready in time, or the deadline passed; the message names what is missing.
    /// </exception>
    public async IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        TimeSpan? deadline,
        CancellationToken enough,
        [EnumeratorCancellation] CancellationToken cancellation = default
    )
    {
        var call = new RolloutCall { Deadline = deadline, Enough = enough };
        await foreach (var e in dispatcher.RunAsync(requests, call, cancellation))
            if (e.Completion is { } completion)
                yield return completion;
    }

    /// <summary>
    /// A request's tokens as they are sampled, its samples mixed. When a worker is lost, another one continues after the last token
    /// that came. Leaving the loop, or cancelling, aborts the request.
    /// </summary>
    /// <exception cref="ArgumentException">The request can't be served.</exception>
    public IAsyncEnumerable<TokenEvent> StreamAsync(
        GenerationRequest request,
        CancellationToken cancellation = default
    ) => dispatcher.RunAsync([request], new() { Stream = true }, cancellation);

    /// <summary>
    /// Sends the weights to every worker. All pause between two steps, receive straight into their live buffers, prove by a hash
    /// what they hold, and resume. A worker whose hash is wrong twice is dropped and replaced. The first push waits for all workers
    /// that this process starts, or for one of another head.
    /// </summary>
    /// <param name="source">
    /// On the CPU, or on a GPU of the calling thread, from which NCCL sends. Must not change before this returns, and must outlive
    /// the pool, because replacements receive from it.
    /// </param>
    /// <param name="version">Greater than the last.</param>
    /// <exception cref="InvalidOperationException">
    /// No worker is left, the workers were set up with another model, or the weights changed during the transfer.
    /// </exception>
    /// <exception cref="TimeoutException">Workers did not join in time.</exception>
    public Task<SyncReport> PushWeightsAsync(
        FlatWeights source,
        int version,
        CancellationToken cancellation = default
    ) => publisher.PushAsync(source, version, cancellation);

    /// <inheritdoc/>
    /// <exception cref="TimeoutException">A worker that was killed for not answering does not end.</exception>
    public Task ReclaimMemoryAsync(CancellationToken cancellation = default) => publisher.ReclaimAsync(cancellation);

    /// <inheritdoc cref="WeightPublisher.HeldWeightsAsync"/>
    internal Task<IReadOnlyList<HeldWeights>> HeldWeightsAsync(CancellationToken cancellation) =>
        publisher.HeldWeightsAsync(cancellation);

    /// <inheritdoc/>
    public async Task<IReadOnlyDictionary<string, EngineStatistics>> StatisticsAsync(
        CancellationToken cancellation = default
    )
    {
        var ready = workers.InState(WorkerState.Ready);
        var answers = await Task.WhenAll(ready.Select(w => StatisticsAsync(w, cancellation)));
        return ready
            .Zip(answers)
            .Where(pair => pair.Second is not null)
            .ToDictionary(pair => pair.First.Instance, pair => pair.Second!);
    }

    private static async Task<EngineStatistics?> StatisticsAsync(RemoteWorker worker, CancellationToken cancellation)
    {
        try
        {
            return await worker.StatisticsAsync(cancellation);
        }
        catch (Exception e) when (e is IOException or TimeoutException)
        {
            return null; // other calls find out what is wrong with the worker
        }
    }

    internal TrainerReport Report() => new(Version, dispatcher.Queued, Status());

    /// <summary>Sequences that the engines of workers in one of these states run at once.</summary>
    internal int MaxSequences(params ReadOnlySpan<WorkerState> states) =>
        workers.InState(states).Sum(w => w.MaxSequences);

    /// <summary>How many workers are in one of these states.</summary>
    internal int Count(params ReadOnlySpan<WorkerState> states) => workers.InState(states).Count;

    /// <summary>
    /// Finds workers by this silo from now on. A silo before it belonged to a cluster that is gone; the workers of that one will
    /// come to this one.
    /// </summary>
    internal void Attach(ClusterSilo next)
    {
        ClusterSilo? former;
        lock (gate)
        {
            former = silo;
            silo = next;
        }
        former?.Unwatch();
        if (former is not null)
            foreach (var worker in workers.All)
                worker.Detach();

        next.Watch((address, member) => OnJoined(next, address, member), OnGone);
    }

    private void OnJoined(ClusterSilo from, SiloAddress address, MemberName member)
    {
        if (member.Role != MemberRole.Worker || stopping.IsCancellationRequested)
            return;

        RemoteWorker worker;
        bool isNew;
        lock (gate)
        {
            if (from != silo)
                return;

            worker = workers.Find(member.Instance) ?? Add(member, isLocal: false);
            isNew = worker.State != WorkerState.Dead && worker.Attach(from, address);
        }

        // The process of a worker that was given up ends when it learns of that.
        if (worker.State == WorkerState.Dead)
            _ = from.DeclareDeadAsync(address);
        else if (isNew)
            _ = BringUpAsync(worker);
    }

    private RemoteWorker Add(MemberName member, bool isLocal) =>
        workers.Add(
            member,
            isLocal,
            slot => new(slot, session, options, workers.NotifyChange, OnDied) { IsLocal = isLocal }
        );

    private async Task BringUpAsync(RemoteWorker worker)
    {
        try
        {
            if (!await worker.SetupAsync(setup, stopping.Token))
                return;

            if (!worker.IsLocal && worker.MarkJoined())
                options.Log($"{worker.Name} has joined (process {worker.ProcessId})");
            await publisher.CatchUpAsync(worker, stopping.Token);
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested) { }
        catch (Exception e)
        {
            worker.Fail(e.Message);
        }
    }

    private void OnGone(SiloAddress address)
    {
        var worker = workers.All.FirstOrDefault(w => address.Equals(w.Address));
        worker?.Fail($"its process {worker.ProcessId} stopped answering the cluster's probes");
    }

    private void OnDied(RemoteWorker worker, string reason)
    {
        if (stopping.IsCancellationRequested)
            return;

        bool hasLeft = worker.Drained || silo?.HasLeft(new(MemberRole.Worker, worker.Name, worker.Instance)) == true;
        string replaced = workers.IsStartedHere(worker.Name) ? " and is replaced" : "";
        options.Log(hasLeft ? $"{worker.Name} has left (drained)" : $"{worker.Name} was lost{replaced}: {reason}");

        if (worker.Address is { } address)
            _ = silo?.DeclareDeadAsync(address);
        if (worker.IsLocal)
            KillProcess(worker.Instance);
        else
            _ = Task.Delay(DeadShownFor, stopping.Token)
                .ContinueWith(_ => workers.Remove(worker), TaskScheduler.Default);
    }

    /// <summary>Kills the process of a dead worker, by instance, where this process has started it.</summary>
    internal Action<string> KillProcess { get; set; } = _ => { };

    void IProcessOwner.OnStarting(string name, string instance)
    {
        Add(new(MemberRole.Worker, name, instance), isLocal: true);
        workers.NotifyChange();
    }

    void IProcessOwner.OnStarted(string instance, int processId)
    {
        if (workers.Find(instance) is not { } worker)
            return;

        worker.ProcessId = processId;
        _ = FailIfLateAsync(worker);
    }

    private async Task FailIfLateAsync(RemoteWorker worker)
    {
        try
        {
            await Task.Delay(options.StartTimeout, stopping.Token);
        }
        catch (OperationCanceledException)
        {
            return;
        }

        if (worker.State == WorkerState.Joining)
            worker.Fail(
                $"waited {options.StartTimeout.TotalSeconds:0} s for its process {worker.ProcessId} "
                    + "to join the cluster and build its engine"
            );
    }

    async Task<ProcessEnd> IProcessOwner.OnEndedAsync(string instance, string ending, TimeSpan lifetime)
    {
        options.Colocated?.Release(instance);
        if (workers.Find(instance) is not { } worker)
            return new(ending, WasUp: true);

        worker.Fail(ending);
        return new(await worker.Death, worker.CameUp);
    }

    void IProcessOwner.OnLeft(string name) => workers.GiveUp(name, "it was asked to leave");

    void IProcessOwner.OnRefused(string name, string reason) => workers.GiveUp(name, reason);

    void IProcessOwner.OnFailed(string name, string reason, int failures) { } // the worker's death was logged

    void IProcessOwner.OnGivenUp(string name, string reason, int failures)
    {
        options.Log($"{name} failed to start {failures} times in a row and is given up: {reason}");
        workers.GiveUp(name, reason);
    }

    /// <summary>Releases the workers. The processes that started them end them.</summary>
    public async ValueTask DisposeAsync()
    {
        if (stopping.IsCancellationRequested)
            return;

        stopping.Cancel();
        await publisher.StopAsync();
        foreach (var worker in workers.All)
            worker.Fail("the cluster is shut down");
        publisher.Dispose();
    }
}
