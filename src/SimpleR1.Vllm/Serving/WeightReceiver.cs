using SimpleR1.Inference;
using SimpleR1.Server.Sources;
using SimpleR1.Vllm.Collectives;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Vllm.Serving;

/// <summary>
/// vLLM's weight updates on one of our engines: pause, start, update, finish, resume. Calls come one at a time. Between
/// start and finish, and after an update that failed, the engine stays paused: a mixture of new and old weights is
/// never sampled from. Weights on a GPU are received by NCCL, on another stream than the engine's, or by TCP through
/// the host's memory; the trainer's group decides.
/// </summary>
/// <param name="tcp">Not disposed here.</param>
/// <param name="timeout">Time for a trainer to join, and for it to send more.</param>
internal sealed class WeightReceiver(LocalCompletions source, TcpCollectives tcp, TimeSpan timeout) : IAsyncDisposable
{
    private static readonly TimeSpan IdlePoll = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan DisposeTimeout = TimeSpan.FromSeconds(10);

    private readonly SemaphoreSlim turn = new(1, 1);
    private readonly ICollectives? nccl =
        source.Weights.Device is { } gpu && NcclSupport.Missing is null
            ? new NcclCollectives(gpu.WithOwnStream())
            : null;
    private readonly TensorReceiver tensors = new(source.Weights);
    private IWeightGroup? group;
    private InitInfo? init;
    private EngineHold? hold;
    private HashSet<string>? received; // names of the tensors of the current update
    private bool paused; // by a call
    private bool torn; // an update failed half-way
    private bool mixed; // an update failed half-way, and not every tensor has been received again since

    /// <summary>Whether the engine is paused, by a call or because its weights are not complete.</summary>
    public bool IsPaused => paused || hold is not null;

    /// <summary>The ways in which trainers can send weights, the fastest first.</summary>
    public IEnumerable<string> Ways => nccl is null ? [tcp.Name] : [nccl.Name, tcp.Name];

    /// <summary>Joins the trainer's group.</summary>
    /// <exception cref="ArgumentException">The rank or the way to the group's id is invalid.</exception>
    public Task InitAsync(InitInfo info) => TurnAsync(() => Task.Run(() => Join(info)));

    private void Join(InitInfo info)
    {
        if (info.WorldSize < 2 || info.RankOffset < 1 || info.RankOffset >= info.WorldSize)
            throw new ArgumentException(
                "rank_offset and world_size: expected a rank from 1 to world_size - 1, "
                    + $"found {info.RankOffset} of {info.WorldSize}; this server has one worker"
            );
        group?.Dispose();
        group = null;

        byte[] id = info switch
        {
            { NcclUniqueIdB64: { } text, MasterAddress: null, MasterPort: null } => ParseId(text),
            { NcclUniqueIdB64: null, MasterAddress: { Length: > 0 } host, MasterPort: > 0 and <= 65535 } =>
                StatelessGroup.ReadId(host, info.MasterPort.Value, timeout),
            _ => throw new ArgumentException(
                "init_info: expected master_address and master_port, or nccl_unique_id_b64"
            ),
        };
        group = CollectivesOf(id).Join(id, info.RankOffset, info.WorldSize, timeout);
        init = info;
    }

    private static byte[] ParseId(string base64)
    {
        byte[] id = new byte[PickledNcclId.Length];
        return Convert.TryFromBase64String(base64, id, out int length) && length == id.Length
            ? id
            : throw new ArgumentException($"nccl_unique_id_b64: expected {id.Length} bytes in base64");
    }

    private ICollectives CollectivesOf(byte[] id)
    {
        if (TcpCollectives.Made(id) || source.Weights.Device is null)
            return tcp; // refuses NCCL's ids for weights on a CPU, with the reason
        return nccl
            ?? throw new InvalidOperationException(
                $"the group's id is one of NCCL, which can't be used here: {NcclSupport.Missing}"
            );
    }

    /// <summary>Starts an update: the engine is paused until it is finished.</summary>
    /// <exception cref="InvalidOperationException">There is no group, or another update is under way.</exception>
    public Task StartAsync() =>
        TurnAsync(async () =>
        {
            if (group is null)
                throw new InvalidOperationException("call /init_weight_transfer_engine first");
            if (received is not null && !torn)
                throw new InvalidOperationException("a weight update is under way; finish it first");
            await PauseEngineAsync();
            received = [];
            mixed |= torn;
            torn = false;
        });

    /// <summary>Receives tensors from the trainer's group.</summary>
    /// <exception cref="InvalidOperationException">No update was started, or there is no group.</exception>
    /// <exception cref="ArgumentException">The tensors do not fit the model; nothing was received.</exception>
    public Task UpdateAsync(UpdateInfo update) =>
        TurnAsync(async () =>
        {
            if (received is null)
                throw new InvalidOperationException("call /start_weight_update first");
            if (group is not { } joined)
                throw new InvalidOperationException(
                    "the trainer's group has not formed; call /init_weight_transfer_engine again"
                );

            // The plan is checked before the first byte, so that a wrong one changes nothing.
            var pieces = update.Pieces(source.Weights.Layout, init!);
            await hold!.OrderAsync(_ =>
            {
                tensors.Reserve(joined, pieces);
                torn = true;
                tensors.Receive(joined, pieces);
                torn = false;
            });
            received.UnionWith(update.Names);
        });

    /// <summary>
    /// Finishes an update. Tensors that were not received keep their values; after an update that failed, every tensor
    /// must have been received since the start.
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// No update was started, or tensors are missing after a failure.
    /// </exception>
    public Task FinishAsync(int? version) =>
        TurnAsync(async () =>
        {
            CheckComplete();
            int next = version ?? source.Statistics.WeightVersion + 1;
            await hold!.OrderAsync(engine =>
            {
                engine.Weights.Version = next;
                engine.SetWeightVersion(next);
                engine.ResetPrefixCache();
            });
            received = null;
            mixed = false;
            if (!paused)
                await ResumeEngineAsync();
        });

    private void CheckComplete()
    {
        if (received is null)
            throw new InvalidOperationException("call /start_weight_update first");
        if (torn)
            throw new InvalidOperationException("the update failed half-way; start another one and send all tensors");
        var missing = source.Weights.Layout.CheckpointTensors.FirstOrDefault(t => !received.Contains(t.Name));
        if (mixed && missing is not null)
            throw new InvalidOperationException(
                $"an update failed half-way before, so all tensors must come again; '{missing.Name}' has not"
            );
    }

    /// <summary>Pauses the engine; new requests wait.</summary>
    /// <param name="mode">
    /// abort ends running requests, wait lets them finish, keep freezes them until the engine is resumed.
    /// </param>
    /// <exception cref="ArgumentException">The mode is none of these.</exception>
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
                        await Task.Delay(IdlePoll);
            }
            await PauseEngineAsync();
            if (clearCache && mode != "keep")
                await hold!.OrderAsync(engine => engine.ResetPrefixCache());
            paused = true;
        });

    /// <summary>Resumes the engine.</summary>
    /// <exception cref="InvalidOperationException">A weight update is under way, or the last one failed.</exception>
    public Task ResumeAsync() =>
        TurnAsync(async () =>
        {
            if (received is not null && torn)
                throw new InvalidOperationException(
                    "the last weight update failed half-way; start another one and send all tensors"
                );
            if (received is not null)
                throw new InvalidOperationException("a weight update is under way; finish it first");
            paused = false;
            await ResumeEngineAsync();
        });

    public Task ResetPrefixCacheAsync() => TurnAsync(() => BetweenStepsAsync(engine => engine.ResetPrefixCache()));

    private async Task PauseEngineAsync()
    {
        if (hold is not null)
            return;
        source.CloseGate();
        hold = await EngineHold.BeginAsync(source);
    }

    private async Task ResumeEngineAsync()
    {
        if (hold is { } held)
        {
            hold = null;
            await held.EndAsync();
        }
        source.OpenGate();
    }

    /// <summary>Runs an order on the engine's thread, where it is paused or else between two of its steps.</summary>
    private Task BetweenStepsAsync(Action<Engine> order) =>
        hold is not null
            ? hold.OrderAsync(order)
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

    /// <summary>
    /// Cancels a transfer. Requests that wait for the engine continue, unless the weights are not complete.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        group?.Dispose();
        nccl?.Dispose();
        if (!await turn.WaitAsync(DisposeTimeout))
            return; // a call waits for a group that does not form, for minutes

        bool incomplete = torn || mixed || received is not null;
        if (hold is not null && incomplete)
            await hold.OrderAsync(source.AbortAll);
        try
        {
            await BetweenStepsAsync(_ => tensors.Dispose()); // its GPU belongs to the engine's thread
        }
        catch (InvalidOperationException)
        {
            // An engine that has failed runs nothing; the process frees what is left.
        }
        await ResumeEngineAsync();
    }
}
