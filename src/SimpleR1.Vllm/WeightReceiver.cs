using System.Collections.Concurrent;
using SimpleR1.Inference;
using SimpleR1.Server.Sources;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Vllm;

/// <summary>
/// vLLM's weight updates on an engine of ours: pause, start, update, finish, resume. Between start and finish, and after an update that
/// failed, the engine stands still: weights of which some are new and some old are never sampled from. Calls come one at a time.
/// Weights on a GPU are received by NCCL, by a stream beside the engine's, or by TCP through the host's memory: the trainer's group decides.
/// </summary>
/// <param name="tcp">Not disposed here.</param>
/// <param name="timeout">For a trainer to join, and for it to send more.</param>
internal sealed class WeightReceiver(LocalCompletions source, TcpCollectives tcp, TimeSpan timeout) : IAsyncDisposable
{
    private readonly SemaphoreSlim turn = new(1, 1);
    private readonly NcclCollectives? nccl =
        source.Weights.Device is { } gpu && NcclSupport.Missing is null ? new(gpu.WithOwnStream()) : null;
    private readonly TensorReceiver tensors = new(source.Weights);
    private IWeightGroup? group;
    private InitInfo? init;
    private Hold? hold;
    private HashSet<string>? received; // of the update under way
    private bool paused,
        torn,
        mixed; // torn: an update failed half-way; mixed: and not every tensor has come again since

    /// <summary>The engine's thread, kept between two steps; orders are carried out there.</summary>
    private sealed record Hold(BlockingCollection<Action<Engine>> Orders, Task Ended);

    /// <summary>Whether the engine stands still because somebody said so, or because its weights are not whole.</summary>
    public bool IsPaused => paused || hold is not null;

    /// <summary>Joins the trainer's group.</summary>
    public Task InitAsync(InitInfo info) =>
        TurnAsync(() =>
            Task.Run(() =>
            {
                if (info.WorldSize < 2 || info.RankOffset < 1 || info.RankOffset >= info.WorldSize)
                    throw new ArgumentException(
                        $"rank_offset and world_size: expected a rank from 1 to world_size - 1, found {info.RankOffset} of {info.WorldSize}; this server has one worker"
                    );
                group?.Dispose();
                group = null;
                byte[] id = info switch
                {
                    { NcclUniqueIdB64: { } text, MasterAddress: null, MasterPort: null } => Id(text),
                    { NcclUniqueIdB64: null, MasterAddress: { Length: > 0 } host, MasterPort: > 0 and <= 65535 } =>
                        StatelessGroup.ReadId(host, info.MasterPort.Value, timeout),
                    _ => throw new ArgumentException(
                        "init_info: expected master_address and master_port, or nccl_unique_id_b64"
                    ),
                };
                group = Collectives(id).Join(id, info.RankOffset, info.WorldSize, timeout);
                init = info;
            })
        );

    private ICollectives Collectives(byte[] id)
    {
        if (TcpCollectives.Made(id) || source.Weights.Device is null)
            return tcp; // which says why NCCL's ids are none for a CPU
        return nccl
            ?? throw new InvalidOperationException(
                $"the group's id is one of NCCL, which can't be used here: {NcclSupport.Missing}"
            );
    }

    /// <summary>What trainers can send weights by, the fastest first.</summary>
    public IEnumerable<string> Ways => nccl is null ? [tcp.Name] : [nccl.Name, tcp.Name];

    private static byte[] Id(string base64)
    {
        byte[] id = new byte[PickledNcclId.Length];
        return Convert.TryFromBase64String(base64, id, out int length) && length == id.Length
            ? id
            : throw new ArgumentException($"nccl_unique_id_b64: expected {id.Length} bytes in base64");
    }

    public Task StartAsync() =>
        TurnAsync(async () =>
        {
            if (group is null)
                throw new InvalidOperationException("call /init_weight_transfer_engine first");
            if (received is not null && !torn)
                throw new InvalidOperationException("a weight update is under way; finish it first");
            await HoldAsync();
            received = [];
            (mixed, torn) = (mixed || torn, false);
        });

    public Task UpdateAsync(UpdateInfo update) =>
        TurnAsync(async () =>
        {
            if (received is null)
                throw new InvalidOperationException("call /start_weight_update first");
            if (group is not { } joined)
                throw new InvalidOperationException(
                    "the trainer's group has not formed; call /init_weight_transfer_engine again"
                );
            var pieces = update.Pieces(source.Weights.Layout, init!); // before the first byte: a wrong plan tears nothing
            await OrderAsync(_ =>
            {
                tensors.Reserve(joined, pieces);
                torn = true;
                tensors.Receive(joined, pieces);
                torn = false;
            });
            received.UnionWith(update.Names);
        });

    /// <summary>Every tensor must have come since the start, where some update failed before; else what did not come stays as it was.</summary>
    public Task FinishAsync(int? version) =>
        TurnAsync(async () =>
        {
            if (received is null)
                throw new InvalidOperationException("call /start_weight_update first");
            if (torn)
                throw new InvalidOperationException(
                    "the update failed half-way; start another one and send all tensors"
                );
            if (
                mixed
                && source.Weights.Layout.CheckpointTensors.FirstOrDefault(t => !received.Contains(t.Name))
                    is { } missing
            )
                throw new InvalidOperationException(
                    $"an update failed half-way before, so all tensors must come again; '{missing.Name}' has not"
                );
            int next = version ?? source.Statistics.WeightVersion + 1;
            await OrderAsync(engine =>
            {
                engine.Weights.Version = next;
                engine.SetWeightVersion(next);
                engine.ResetPrefixCache();
            });
            (received, mixed) = (null, false);
            if (!paused)
                await ReleaseAsync();
        });

    /// <summary>abort ends what runs, wait lets it finish, keep freezes it until the engine is resumed. New requests wait in each case.</summary>
    public Task PauseAsync(string mode, bool clearCache) =>
        TurnAsync(async () =>
        {
            if (mode is not ("abort" or "wait" or "keep"))
                throw new ArgumentException($"mode: expected abort, wait or keep, found '{mode}'");
            if (!paused && hold is null)
            {
                source.CloseGate();
                if (mode == "abort")
                    await source.AbortAllAsync();
                else if (mode == "wait")
                    while (await source.BetweenStepsAsync(engine => engine.HasWork))
                        await Task.Delay(5);
            }
            await HoldAsync();
            if (clearCache && mode != "keep")
                await OrderAsync(engine => engine.ResetPrefixCache());
            paused = true;
        });

    public Task ResumeAsync() =>
        TurnAsync(async () =>
        {
            if (received is not null)
                throw new InvalidOperationException(
                    torn
                        ? "the last weight update failed half-way; start another one and send all tensors"
                        : "a weight update is under way; finish it first"
                );
            paused = false;
            await ReleaseAsync();
        });

    public Task ResetPrefixCacheAsync() => TurnAsync(() => StandingAsync(engine => engine.ResetPrefixCache()));

    // ---- the engine's thread

    private async Task HoldAsync()
    {
        if (hold is not null)
            return;
        source.CloseGate();
        var standing = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var orders = new BlockingCollection<Action<Engine>>();
        var ended = source.BetweenStepsAsync(engine =>
        {
            standing.SetResult();
            foreach (var order in orders.GetConsumingEnumerable())
                order(engine);
            return true;
        });
        if (await Task.WhenAny(standing.Task, ended) == ended)
            await ended; // the engine has failed: says why
        hold = new(orders, ended);
    }

    private async Task ReleaseAsync()
    {
        if (hold is { } held)
        {
            hold = null;
            held.Orders.CompleteAdding();
            await held.Ended;
        }
        source.OpenGate();
    }

    private Task OrderAsync(Action<Engine> order)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        hold!.Orders.Add(engine =>
        {
            try
            {
                order(engine);
                done.SetResult();
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        return done.Task;
    }

    /// <summary>An order where the engine stands still, and else between two of its steps.</summary>
    private Task StandingAsync(Action<Engine> order) =>
        hold is not null
            ? OrderAsync(order)
            : source.BetweenStepsAsync(engine =>
            {
                order(engine);
                return true;
            });

    private async Task TurnAsync(Func<Task> call)
    {
        await turn.WaitAsync();
        try
        {
            await call();
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>Breaks off what is under way. What waits for the engine goes on, unless the weights are not whole.</summary>
    public async ValueTask DisposeAsync()
    {
        group?.Dispose();
        nccl?.Dispose();
        if (!await turn.WaitAsync(TimeSpan.FromSeconds(10)))
            return; // joining a group that does not form, for minutes
        if (hold is not null && (torn || mixed || received is not null))
            await OrderAsync(source.AbortAll);
        try
        {
            await StandingAsync(_ => tensors.Dispose());
        } // its GPU is the engine's thread's
        catch (InvalidOperationException) { } // an engine that has failed does nothing any more; what is left goes with the process
        await ReleaseAsync();
    }
}
