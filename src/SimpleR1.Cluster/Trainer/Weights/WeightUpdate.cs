using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Cluster.Wire;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Trainer.Weights;

/// <summary>The phases of a weight update.</summary>
internal enum UpdatePhase
{
    Prepare,
    Transfer,
    Verify,
    Commit,
}

/// <summary>What an update sends, and to whom.</summary>
/// <param name="HostCopy">Where weights on a GPU are copied for transports that send from the CPU's memory.</param>
internal sealed record UpdateRequest(
    IReadOnlyList<RemoteWorker> Workers,
    FlatWeights Source,
    int Version,
    HostCopy HostCopy
)
{
    /// <summary>
    /// The workers joined after the push. The trainer may change the weights during the update; the workers then wait for
    /// the next push.
    /// </summary>
    public bool IsLate { get; init; }
}

/// <summary>
/// One update of some workers, in four phases. Prepare: every engine pauses between two steps. Transfer. Verify: each
/// worker proves by a hash what it holds. Commit: every token carries the version from now on, and the engines resume.
/// A worker that is lost during the update is reported with the phase and dropped; the others finish.
/// </summary>
/// <param name="hash">Computes the trainer's hash of weights as they are when held in a type.</param>
internal sealed class WeightUpdate(
    UpdateRequest request,
    IReadOnlyList<IWeightTransport> transports,
    Func<FlatWeights, ScalarType, Task<ulong>> hash,
    ClusterOptions options,
    CancellationToken cancellation
)
{
    // A collective that loses members forms again so often; then its workers are sent to one by one.
    private const int Regroupings = 4;
    private static readonly TimeSpan PingPause = TimeSpan.FromSeconds(1);

    private readonly int version = request.Version;
    private readonly List<RemoteWorker> workers = [.. request.Workers]; // without those that were dropped
    private readonly ConcurrentDictionary<RemoteWorker, ReceiptMessage> receipts = [];
    private readonly List<string> dropped = [];
    private readonly UpdateOffers offers = new(request, transports);
    private readonly Dictionary<UpdatePhase, double> seconds = [];
    private readonly Stopwatch clock = new();
    private UpdatePhase phase;
    private int attempt;

    /// <summary>The trainer's hashes, by the workers' element types.</summary>
    public Dictionary<ScalarType, ulong> Hashes { get; } = [];

    private TimeSpan PrepareTimeout =>
        options.OnUpdate == OnUpdate.Drain ? options.SyncTimeout : options.ResponseTimeout;

    /// <summary>The element type that the report is in.</summary>
    private ScalarType ReportedType =>
        request.Workers is [var first, ..] ? first.ElementType : request.Source.Flat.dtype;

    private string PhaseText => $"in the {phase.ToString().ToLowerInvariant()} phase";

    /// <exception cref="InvalidOperationException">
    /// The weights changed during the update, or no transport can send them to any worker.
    /// </exception>
    public async Task<SyncReport> RunAsync()
    {
        using var watch = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var watching = Task.WhenAll(workers.ToArray().Select(w => WatchAsync(w, watch.Token)));
        var hashes = workers
            .Select(w => w.ElementType)
            .Distinct()
            .ToDictionary(type => type, type => hash(request.Source, type));
        try
        {
            return await RunPhasesAsync(hashes);
        }
        catch (Exception e) when (e is not TakenOverException)
        {
            // The paused workers' weights are undefined.
            foreach (var worker in workers.Where(w => w.State == WorkerState.Receiving))
                worker.Fail("a weight update was cancelled: " + e.Message);
            throw;
        }
        finally
        {
            watch.Cancel();
            await watching;
            offers.Dispose();
            foreach (var value in hashes.Values)
                await value; // reads the weights until then
        }
    }

    private async Task<SyncReport> RunPhasesAsync(Dictionary<ScalarType, Task<ulong>> hashes)
    {
        long sentBefore = transports.Sum(t => t.SentBytes);

        // Prepare: the offers are made while the engines run.
        Enter(UpdatePhase.Prepare);
        var groups = Offer(workers, collectively: true);
        await AllAsync(
            workers,
            w => w.PrepareAsync(version, options.OnUpdate, options.Overlap, PrepareTimeout, cancellation)
        );

        Enter(UpdatePhase.Transfer);
        await TransferAsync(groups);

        // Verify: the trainer's own hashes were computed during the transfer.
        Enter(UpdatePhase.Verify);
        foreach (var (type, value) in hashes)
            Hashes[type] = await value;
        await VerifyAsync();

        Enter(UpdatePhase.Commit);
        double paused = await CommitAsync();
        Lap();

        return Report(transports.Sum(t => t.SentBytes) - sentBefore, paused);
    }

    private SyncReport Report(long sentBytes, double pausedSeconds)
    {
        ReceiptMessage[] last = [.. workers.Select(w => receipts[w])];
        return new()
        {
            Version = version,
            Hash = Hashes.GetValueOrDefault(ReportedType),
            Bytes = BroadcastPlan.For(request.Source, version, held: ReportedType).ByteLength,
            Workers = [.. workers.Select(w => w.Number)],
            Transport = string.Join(", ", last.Select(r => r.Transport).Distinct()),
            Dropped = dropped,

            PrepareSeconds = seconds[UpdatePhase.Prepare],
            TransferSeconds = seconds[UpdatePhase.Transfer],
            VerifySeconds = seconds[UpdatePhase.Verify],
            CommitSeconds = seconds[UpdatePhase.Commit],

            SentBytes = sentBytes,
            PausedSeconds = pausedSeconds,
            ReceiveSeconds = last.Select(r => r.Seconds).DefaultIfEmpty().Max(),
            HashSeconds = last.Select(r => r.HashSeconds).DefaultIfEmpty().Max(),
        };
    }

    private void Enter(UpdatePhase next)
    {
        Lap();
        phase = next;
        options.Phase(next);
    }

    /// <summary>Adds the time since the last call to the current phase.</summary>
    private void Lap()
    {
        seconds[phase] = clock.Elapsed.TotalSeconds;
        clock.Restart();
    }

    /// <summary>Offers the weights to these workers; drops those that no transport reaches.</summary>
    private List<UpdateGroup> Offer(IReadOnlyList<RemoteWorker> receivers, bool collectively)
    {
        var groups = offers.Groups(receivers, collectively).ToLookup(group => group.Transports.Count > 0);
        string Reason(UpdateGroup group) => WeightTransports.WhyUnreachable(request.Source, group.AddressesTaken);

        // When no worker can be reached, the push fails instead of losing all of them.
        var unreachable = groups[false].ToArray();
        if (!groups[true].Any() && unreachable.Length > 0 && !request.IsLate)
        {
            string names = string.Join(", ", unreachable.SelectMany(g => g.Members).Select(w => w.Name));
            throw new InvalidOperationException(
                $"These weights can't be sent to {names} by {options.Transport}: {Reason(unreachable[0])}"
            );
        }

        foreach (var group in unreachable)
        foreach (var worker in group.Members)
            Drop(worker, $"the weights can't be sent to the worker by {options.Transport}: {Reason(group)}");
        return [.. groups[true].Select(offers.MakeOffers)];
    }

    /// <summary>Transfers; where members of a collective are lost, the others form a new one.</summary>
    private async Task TransferAsync(List<UpdateGroup> groups)
    {
        for (int regroupings = 0; ; regroupings++)
        {
            int current = ++attempt;
            await Task.WhenAll(groups.Select(group => ReceiveAsync(group, current)));

            // Workers whose transfer failed only because another member was lost try again.
            var left = groups
                .Where(g => g.IsCollective)
                .SelectMany(g => g.Members)
                .Where(w => workers.Contains(w) && receipts[w].Failure is not null)
                .ToArray();
            if (left.Length == 0)
                return;

            bool again = regroupings < Regroupings;
            string names = string.Join(", ", left.Select(w => w.Name));
            options.Log(
                $"Weights version {version}: the transfer to {names} failed ({receipts[left[0]].Failure}); "
                    + (again ? "they form a new group" : "they are sent to one by one")
            );
            groups = Offer(left, collectively: again);
        }
    }

    private async Task ReceiveAsync(UpdateGroup group, int current)
    {
        var all = AllAsync(
            group.Members,
            async worker =>
            {
                var receipt = await worker.ReceiveAsync(group.Invitations(worker), current, cancellation);
                bool other = receipt.Failure is null && receipt.Version != version;
                receipts[worker] = other
                    ? receipt with
                    {
                        Failure = $"the worker reports that it received version {receipt.Version}",
                    }
                    : receipt;
            }
        );
        if (group.IsCollective)
            await GuardAsync(group, all, current);
        await all;

        // The sending may end after the receivers: ending it before would break the group up.
        if (group.IsCollective && group.Members.All(m => workers.Contains(m) && receipts[m].Failure is null))
            await Task.WhenAny(group.Sending);
    }

    /// <summary>
    /// Cancels the transfer when a member of the group is lost or the trainer's own part fails, so that no process waits
    /// for a transfer that cannot finish.
    /// </summary>
    private static async Task GuardAsync(UpdateGroup group, Task all, int attempt)
    {
        var lost = Task.WhenAny(group.Members.Select(m => m.Death));
        var failed = group
            .Sending.ContinueWith(s => s.IsCompletedSuccessfully ? all : Task.CompletedTask, TaskScheduler.Default)
            .Unwrap();
        await Task.WhenAny(all, lost, failed);
        if (all.IsCompleted)
            return;

        var alive = group.Members.Where(m => m.State != WorkerState.Dead);
        await Task.WhenAll([Task.Run(group.Offers[0].Dispose), .. alive.Select(m => m.CancelTransferAsync(attempt))]);
    }

    private async Task VerifyAsync()
    {
        // A wrong hash is the trainer's fault where its weights have changed since it computed its own.
        if (workers.Any(w => Mistake(w) is not null) && await SourceChangedAsync())
        {
            if (!request.IsLate)
                throw new InvalidOperationException(
                    $"The trainer's weights changed while version {version} was being sent; "
                        + "nothing may write to them until the push has returned"
                );
            // The trainer is in its next step; the next push includes these workers.
            await AllAsync(workers, worker => worker.AbandonAsync(cancellation));
            workers.Clear();
        }

        // Others receive once more, each by itself.
        RemoteWorker[] wrong = [.. workers.Where(w => Mistake(w) is not null)];
        if (wrong.Length == 0)
            return;
        foreach (var worker in wrong)
            options.Log(
                $"{worker.Name}: weights version {version} arrived wrong ({Mistake(worker)}); sending them again"
            );
        await TransferAsync(Offer(wrong, collectively: false));
        await AllAsync(
            wrong,
            worker =>
                Mistake(worker) is { } again
                    ? throw new IOException($"weights version {version} arrived wrong twice: {again}")
                    : Task.CompletedTask
        );
    }

    private async Task<bool> SourceChangedAsync()
    {
        var changes = Hashes.Select(async known => await hash(request.Source, known.Key) != known.Value);
        return (await Task.WhenAll(changes)).Any(changed => changed);
    }

    /// <summary>What is wrong with the weights that a worker received; null for nothing.</summary>
    private string? Mistake(RemoteWorker worker)
    {
        var receipt = receipts[worker];
        ulong expected = Hashes[worker.ElementType];
        if (receipt.Failure is null && receipt.Hash != expected)
            return $"its hash is {receipt.Hash:x16}, the trainer's {expected:x16}";
        return receipt.Failure;
    }

    /// <returns>Longest time in seconds that a worker's engine was paused.</returns>
    private async Task<double> CommitAsync()
    {
        var pauses = new ConcurrentBag<double>();
        await AllAsync(
            workers,
            async worker =>
                pauses.Add(await worker.CommitAsync(version, Hashes[worker.ElementType], PrepareTimeout, cancellation))
        );
        return pauses.DefaultIfEmpty().Max();
    }

    /// <summary>Does something with each of these workers, in parallel; drops the worker where it fails.</summary>
    private async Task AllAsync(IReadOnlyList<RemoteWorker> members, Func<RemoteWorker, Task> action)
    {
        async Task TryAsync(RemoteWorker worker)
        {
            try
            {
                await action(worker);
            }
            catch (Exception e) when (!cancellation.IsCancellationRequested && e is not TakenOverException)
            {
                Drop(worker, e.Message);
            }
        }
        RemoteWorker[] present = [.. members.Where(workers.Contains)];
        await Task.WhenAll(present.Select(worker => Task.Run(() => TryAsync(worker))));
    }

    private void Drop(RemoteWorker worker, string reason)
    {
        worker.Fail($"{PhaseText} of weights version {version}: {reason}");
        lock (dropped)
        {
            dropped.Add($"{worker.Name}: {PhaseText}: {reason}");
            workers.Remove(worker);
        }
    }

    /// <summary>Fails a worker that gives no sign of life, which ends all calls to it.</summary>
    private async Task WatchAsync(RemoteWorker worker, CancellationToken watch)
    {
        try
        {
            while (worker.State != WorkerState.Dead)
            {
                await Task.Delay(PingPause, watch);
                await worker.PingAsync(options.SilenceTimeout, watch);
            }
        }
        catch (Exception) when (watch.IsCancellationRequested || worker.State == WorkerState.Dead) { }
        catch (Exception e)
        {
            worker.Fail($"{PhaseText} of weights version {version}: {e.Message}");
        }
    }
}
