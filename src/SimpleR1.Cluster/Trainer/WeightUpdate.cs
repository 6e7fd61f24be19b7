using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Trainer;

/// <summary>Where a weight update stands.</summary>
internal enum UpdatePhase
{
    Prepare,
    Transfer,
    Verify,
    Commit,
}

/// <summary>
/// One update of some workers: prepare (all pause between two steps), transfer, verify (each proves by a hash what it holds), commit (the version is on
/// every token from now on, and all go on). A worker that is lost on the way is named with the phase and dropped; the others finish.
/// </summary>
/// <param name="late">These workers joined after the push: the trainer may change the weights meanwhile, and then they wait for the next one.</param>
/// <param name="hash">The trainer's hash of its weights as they are when held in a type.</param>
internal sealed class WeightUpdate(
    List<RemoteWorker> workers,
    FlatWeights source,
    int version,
    IReadOnlyList<IWeightTransport> transports,
    Func<ScalarType, Task<ulong>> hash,
    ClusterOptions options,
    CancellationToken cancellation,
    bool late = false
)
{
    private const int Regroupings = 4; // of a collective transport whose members are lost, before the others are sent to one by one
    private static readonly TimeSpan PingPause = TimeSpan.FromSeconds(1);

    private readonly ConcurrentDictionary<RemoteWorker, ReceiptMessage> receipts = [];
    private readonly List<string> dropped = [];
    private readonly List<WeightOffer> offers = [];
    private UpdatePhase phase;
    private int attempt;

    /// <summary>The trainer's hashes, by the workers' element types.</summary>
    public Dictionary<ScalarType, ulong> Hashes { get; } = [];

    /// <summary>Workers that the same offers are made to.</summary>
    private sealed record Group(List<RemoteWorker> Members, WeightOffer[] Offers, bool Collective)
    {
        public IEnumerable<WeightInvitation> Invitations(RemoteWorker member) =>
            Offers.Select(o => o.Invitations[Members.IndexOf(member)]);
    }

    /// <exception cref="InvalidOperationException">The weights changed on the way, or no transport can send them to any worker.</exception>
    public async Task<SyncReport> RunAsync()
    {
        long SentBytes() => transports.OfType<TcpTransport>().Sum(t => t.SentBytes);
        long sentBefore = SentBytes();
        var clock = Stopwatch.StartNew();
        double Lap()
        {
            double seconds = clock.Elapsed.TotalSeconds;
            clock.Restart();
            return seconds;
        }
        using var watch = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var watching = Task.WhenAll(workers.ToArray().Select(w => WatchAsync(w, watch.Token)));
        var types = workers.Select(w => w.ElementType).Distinct().ToArray();
        var hashes = types.ToDictionary(t => t, hash);
        try
        {
            var plan = BroadcastPlan.For(source, version, held: types.FirstOrDefault(source.Flat.dtype));
            Enter(UpdatePhase.Prepare);
            var groups = Offer(workers, collectively: true);
            var patience = options.OnUpdate == OnUpdate.Drain ? options.SyncTimeout : options.ResponseTimeout;
            await AllAsync(
                workers,
                worker => worker.PrepareAsync(version, options.OnUpdate, options.Overlap, patience, cancellation)
            );
            double prepare = Lap();
            Enter(UpdatePhase.Transfer);
            await TransferAsync(groups);
            double transfer = Lap();
            Enter(UpdatePhase.Verify);
            foreach (var (type, value) in hashes)
                Hashes[type] = await value;
            await VerifyAsync();
            double verify = Lap();
            Enter(UpdatePhase.Commit);
            double paused = 0;
            await AllAsync(
                workers,
                async worker =>
                {
                    double stood = await worker.CommitAsync(
                        version,
                        Hashes[worker.ElementType],
                        patience,
                        cancellation
                    );
                    lock (dropped)
                        paused = Math.Max(paused, stood);
                }
            );
            return new(
                version,
                types.Length == 0 ? 0 : Hashes[types[0]],
                plan.ByteLength,
                [.. workers.Select(w => w.Number)],
                string.Join(", ", workers.Select(w => receipts[w].Transport).Distinct()),
                prepare,
                transfer,
                verify,
                Lap(),
                dropped
            )
            {
                SentBytes = SentBytes() - sentBefore,
                PausedSeconds = paused,
                ReceiveSeconds = workers.Select(w => receipts[w].Seconds).DefaultIfEmpty().Max(),
                HashSeconds = workers.Select(w => receipts[w].HashSeconds).DefaultIfEmpty().Max(),
            };
        }
        catch (Exception e) when (e is not TakenOverException) // cancelled: the paused workers hold nobody knows what
        {
            foreach (var worker in workers.Where(w => w.State == WorkerState.Receiving))
                worker.Fail("a weight update was broken off: " + e.Message);
            throw;
        }
        finally
        {
            watch.Cancel();
            await watching;
            foreach (var offer in offers)
                offer.Dispose();
            foreach (var value in hashes.Values)
                await value; // reads the weights until then
        }
    }

    private void Enter(UpdatePhase next)
    {
        phase = next;
        options.Phase(next);
    }

    // ---- transfer

    /// <summary>Makes the offers that these workers will be invited to: a collective one to those that can take part, the others to each of the rest.</summary>
    private List<Group> Offer(IReadOnlyList<RemoteWorker> receivers, bool collectively)
    {
        var groups = new List<Group>();
        var unreachable = new List<(RemoteWorker Worker, string Reason)>();
        foreach (var type in receivers.GroupBy(w => w.ElementType))
        {
            var plan = BroadcastPlan.For(source, version, held: type.Key);
            WeightOffer Make(IWeightTransport transport, List<RemoteWorker> members)
            {
                var offer = transport.Offer(
                    source,
                    plan with
                    {
                        Trainers = transport.SendersOf(source),
                    },
                    [.. members.Select(w => w.Instance)]
                );
                offers.Add(offer);
                return offer;
            }
            // Where the collective way is the only one, it is taken again.
            var collective =
                collectively || transports.All(t => t.IsCollective)
                    ? transports.FirstOrDefault(t => t.IsCollective && t.CanOffer(source))
                    : null;
            HashSet<string> taken = [.. collective?.GpusOf(source) ?? []]; // the trainer's, then the workers'
            List<RemoteWorker> together = collective is null
                    ? []
                    : [.. type.Where(w => w.NcclGpu is { } gpu && taken.Add(gpu))],
                rest = [.. type.Except(together)];
            if (together.Count > 0)
                groups.Add(new(together, [Make(collective!, together)], Collective: true));
            if (rest.Count == 0)
                continue;
            WeightOffer[] single =
            [
                .. transports.Where(t => !t.IsCollective && t.CanOffer(source)).Select(t => Make(t, rest)),
            ];
            if (single.Length > 0)
                groups.Add(new(rest, single, Collective: false));
            else
                unreachable.AddRange(
                    rest.Select(w =>
                        (
                            w,
                            taken.Contains(w.NcclGpu ?? "")
                                ? "a group takes each GPU once, and its GPU is the trainer's or another worker's too"
                            : source.Device is null
                                ? $"allocate them with {nameof(SharedWeightMemory)}.{nameof(SharedWeightMemory.Allocate)}, or choose another transport"
                            : "they are on a GPU, and are sent by NCCL only; it must be there, and the workers on GPUs"
                        )
                    )
                );
        }
        if (groups.Count == 0 && unreachable.Count > 0 && !late)
            throw new InvalidOperationException(
                $"These weights can't be sent to {string.Join(", ", unreachable.Select(u => u.Worker.Name))} by {options.Transport}: {unreachable[0].Reason}"
            );
        foreach (var (worker, reason) in unreachable)
            Drop(worker, $"the weights can't be sent to it by {options.Transport}: {reason}");
        return groups;
    }

    /// <summary>Where members of a collective are lost, the others form a new one.</summary>
    private async Task TransferAsync(List<Group> groups)
    {
        for (int regroupings = 0; ; regroupings++)
        {
            await ReceiveAsync(groups);
            var left = groups
                .Where(g => g.Collective)
                .SelectMany(g => g.Members)
                .Where(w => workers.Contains(w) && receipts[w].Failure is not null)
                .ToArray();
            if (left.Length == 0)
                return;
            bool again = regroupings < Regroupings;
            options.Log(
                $"Weights version {version}: the transfer to {string.Join(", ", left.Select(w => w.Name))} broke off ({receipts[left[0]].Failure}); {(again ? "they form a new group" : "they are sent to one by one")}"
            );
            groups = Offer(left, collectively: again);
        }
    }

    private async Task ReceiveAsync(List<Group> groups)
    {
        int current = ++attempt;
        await Task.WhenAll(
            groups.Select(async group =>
            {
                var all = AllAsync(
                    group.Members,
                    async worker =>
                    {
                        var receipt = await worker.ReceiveAsync(group.Invitations(worker), current, cancellation);
                        receipts[worker] =
                            receipt.Failure is null && receipt.Version != version
                                ? receipt with
                                {
                                    Failure = $"it says that it received version {receipt.Version}",
                                }
                                : receipt;
                    }
                );
                if (group.Collective)
                    await GuardAsync(group, all, current);
                await all;
                if (group.Collective && group.Members.All(m => workers.Contains(m) && receipts[m].Failure is null))
                    await Task.WhenAny(group.Offers[0].Sending); // may end after the receivers: ending it before would break the group up
            })
        );
    }

    /// <summary>When a member of a group is lost, or the trainer's own part fails, nobody waits for what can't come.</summary>
    private static async Task GuardAsync(Group group, Task all, int attempt)
    {
        var sending = group.Offers[0].Sending;
        var lost = Task.WhenAny(group.Members.Select(m => m.Death));
        var failed = sending
            .ContinueWith(s => s.IsCompletedSuccessfully ? all : Task.CompletedTask, TaskScheduler.Default)
            .Unwrap();
        await Task.WhenAny(all, lost, failed);
        if (all.IsCompleted)
            return;
        await Task.WhenAll([
            Task.Run(group.Offers[0].Dispose),
            .. group.Members.Where(m => m.State != WorkerState.Dead).Select(m => m.BreakOffAsync(attempt)),
        ]);
    }

    // ---- verify

    private async Task VerifyAsync()
    {
        if (
            workers.Any(w => Wrong(w) is not null)
            && (await Task.WhenAll(Hashes.Keys.Select(async type => await hash(type) != Hashes[type]))).Any(changed =>
                changed
            )
        )
        {
            if (!late)
                throw new InvalidOperationException(
                    $"The trainer's weights changed while version {version} was being sent; nothing may write to them until the push has returned"
                );
            await AllAsync(workers, worker => worker.AbandonAsync(cancellation)); // the trainer has gone on with its step; the next push takes them along
            workers.Clear();
        }
        RemoteWorker[] wrong = [.. workers.Where(w => Wrong(w) is not null)];
        if (wrong.Length == 0)
            return;
        foreach (var worker in wrong)
            options.Log(
                $"{worker.Name}: weights version {version} arrived wrong ({Wrong(worker)}); sending them again"
            );
        await TransferAsync(Offer(wrong, collectively: false));
        await AllAsync(
            wrong,
            worker =>
                Wrong(worker) is { } again
                    ? throw new IOException($"weights version {version} arrived wrong twice: {again}")
                    : Task.CompletedTask
        );
    }

    private string? Wrong(RemoteWorker worker) =>
        receipts[worker].Failure
        ?? (
            receipts[worker].Hash == Hashes[worker.ElementType]
                ? null
                : $"its hash is {receipts[worker].Hash:x16}, the trainer's {Hashes[worker.ElementType]:x16}"
        );

    // ---- who is lost

    private async Task AllAsync(IReadOnlyList<RemoteWorker> some, Func<RemoteWorker, Task> action) =>
        await Task.WhenAll(
            some.Where(workers.Contains)
                .ToArray()
                .Select(worker =>
                    Task.Run(async () =>
                    {
                        try
                        {
                            await action(worker);
                        }
                        catch (Exception e) when (!cancellation.IsCancellationRequested && e is not TakenOverException)
                        {
                            Drop(worker, e.Message);
                        }
                    })
                )
        );

    private void Drop(RemoteWorker worker, string reason)
    {
        worker.Fail($"in the {phase.ToString().ToLowerInvariant()} phase of weights version {version}: {reason}");
        lock (dropped)
        {
            dropped.Add($"{worker.Name}: in the {phase.ToString().ToLowerInvariant()} phase: {reason}");
            workers.Remove(worker);
        }
    }

    /// <summary>A worker that gives no sign of life is failed, which ends all calls to it.</summary>
    private async Task WatchAsync(RemoteWorker worker, CancellationToken stop)
    {
        try
        {
            while (worker.State != WorkerState.Dead)
            {
                await Task.Delay(PingPause, stop);
                await worker.PingAsync(options.SilenceTimeout, stop);
            }
        }
        catch (Exception) when (stop.IsCancellationRequested || worker.State == WorkerState.Dead) { }
        catch (Exception e)
        {
            worker.Fail(
                $"in the {phase.ToString().ToLowerInvariant()} phase of weights version {version}: {e.Message}"
            );
        }
    }
}
