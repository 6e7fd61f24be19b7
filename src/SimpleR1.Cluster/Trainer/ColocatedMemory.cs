using SimpleR1.Cluster.Wire;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Ipc;

namespace SimpleR1.Cluster.Trainer;

/// <summary>
/// What a trainer shares with the worker processes on its GPU: its live weights, which are the workers' too, and one pool
/// of memory. The pool has the workers' KV caches while they generate, and is the trainer's while it trains. The trainer
/// owns both, whatever becomes of a worker.
/// </summary>
/// <remarks>
/// The pool is lent with an update of weights, and a worker may touch its part, and read the weights, from the commit
/// until it acknowledges that the trainer reclaims them, or until its process has ended. The weights and the pool must
/// outlive the workers.
/// </remarks>
public sealed class ColocatedMemory
{
    private const long PartAlignment = 256;

    private readonly Lock gate = new();
    private readonly DeviceMemory pool;
    private readonly Dictionary<string, Holder> holders = []; // by the process's instance
    private readonly HashSet<string> ended = []; // instances, some of which may never have been holders
    private readonly TrainerMemory? shared;
    private int parts = 1;
    private volatile bool isLent; // changed under the gate, read without it

    /// <param name="Part">The index of its part.</param>
    private sealed record Holder(int Part)
    {
        /// <summary>Completes when the lease ends; null while there is none.</summary>
        public TaskCompletionSource? Lease { get; set; }
    }

    /// <param name="weights">On a GPU; the only ones that are pushed to the workers.</param>
    /// <param name="pool">
    /// On the same GPU, an allocation of its own (<see cref="IpcHandle.RoundUp"/>). Each worker there gets an equal part.
    /// </param>
    /// <exception cref="ArgumentException">The memory can't be shared in this form.</exception>
    public ColocatedMemory(FlatWeights weights, DeviceMemory pool)
    {
        if (weights.DeviceMemory is not { } memory || memory.Device.Uuid != pool.Device.Uuid)
            throw new ArgumentException("the weights and the pool must be on the same GPU");
        Weights = weights;
        this.pool = pool;
        try
        {
            shared = new(IpcHandle.Of(memory), weights.Flat.dtype, IpcHandle.Of(pool));
        }
        catch (CudaException e)
        {
            Refusal = e.Message;
        }
    }

    public FlatWeights Weights { get; }
    public CudaDevice Device => pool.Device;

    /// <summary>
    /// Why workers can't map the memory (containers, parts of a GPU); null where nothing is known against it. Then the
    /// pool stays the trainer's, and workers have memory of their own and receive the weights by way of the host.
    /// </summary>
    public string? Refusal { get; private set; }

    /// <summary>
    /// Called when the memory turns out not to be shareable, before workers take memory of their own: make the pool
    /// smaller, or free it. Workers take what is free.
    /// </summary>
    public Action Refused { get; init; } = () => { };

    /// <summary>Whether the pool is the workers'.</summary>
    public bool IsLent => isLent;

    /// <summary>The pool, for the trainer's use.</summary>
    /// <exception cref="InvalidOperationException">It is lent to workers.</exception>
    public DeviceMemory Pool =>
        IsLent
            ? throw new InvalidOperationException(
                "the pool is lent to the workers; take it back with ReclaimMemoryAsync before training"
            )
            : pool;

    /// <summary>JSON of a <see cref="TrainerMemory"/>.</summary>
    private string Description => WireFormat.ToJson(shared!);

    /// <summary>Prepares for this many workers on the GPU.</summary>
    internal void Begin(int workers, Action<string> log)
    {
        parts = workers;
        if (Refusal is not null)
            Refuse(log);
    }

    private void Refuse(Action<string> log)
    {
        log(
            $"placement: the driver shares no memory between processes here ({Refusal}); workers on cuda:{Device.Index} "
                + "have their own KV cache, and get the weights by way of the host's memory"
        );
        Refused();
    }

    /// <summary>Has a worker map the memory, where it computes on this GPU.</summary>
    /// <returns>Its part of the pool; null where it has memory of its own.</returns>
    internal async Task<MemoryPart?> PlaceAsync(
        string instance,
        WorkerLink link,
        ClusterOptions options,
        CancellationToken cancellation
    )
    {
        if (Refusal is not null)
            return null;
        var reply = await link.CallAsync(
            grain => grain.MapMemoryAsync(Description),
            options.StartTimeout,
            "map the trainer's memory",
            cancellation
        );
        return Admit(instance, reply, options.Log);
    }

    /// <summary>A part of the pool for a worker that maps it; null for one that has memory of its own.</summary>
    /// <exception cref="IOException">The worker can't map what others do.</exception>
    internal MemoryPart? Admit(string instance, MapReply reply, Action<string> log)
    {
        lock (gate) // held while the trainer frees memory, for the other workers need it too
        {
            if (ended.Contains(instance))
                throw new IOException("its process has ended");
            if (Refusal is not null || !reply.IsOnGpu)
                return null;
            if (reply.Refused is { } refused && holders.Count > 0)
                throw new IOException($"it can't map the trainer's memory, as other workers do: {refused}");
            if (reply.Refused is not null)
            {
                Refusal = reply.Refused;
                Refuse(log);
                return null;
            }

            int[] free = [.. Enumerable.Range(0, parts).Except(holders.Values.Select(h => h.Part))];
            if (free.Length == 0)
                throw new IOException($"all {parts} parts of the trainer's memory have holders");
            holders.Add(instance, new(free[0]));
            long bytes = pool.Bytes / parts / PartAlignment * PartAlignment;
            return new(free[0] * bytes, bytes);
        }
    }

    /// <summary>Lets workers have the pool, each from its commit on. The trainer's work on the GPU must have ended.</summary>
    internal void Lend()
    {
        Device.Synchronize();
        lock (gate)
            isLent = Refusal is null;
    }

    /// <summary>A worker is about to be told to commit: from now on it may touch its part.</summary>
    /// <exception cref="InvalidOperationException">The pool is the trainer's.</exception>
    /// <exception cref="IOException">The worker's process has ended.</exception>
    internal void BeginLease(string instance)
    {
        lock (gate)
        {
            if (!isLent)
                throw new InvalidOperationException("the pool is the trainer's, and can't be leased");
            if (!holders.TryGetValue(instance, out var holder))
                throw new IOException("its process has ended");
            holder.Lease ??= new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    internal bool HasLease(string instance)
    {
        lock (gate)
            return holders.TryGetValue(instance, out var holder) && holder.Lease is not null;
    }

    /// <summary>A worker has acknowledged that it touches nothing any more.</summary>
    internal void EndLease(string instance)
    {
        lock (gate)
            if (holders.TryGetValue(instance, out var holder))
            {
                holder.Lease?.TrySetResult();
                holder.Lease = null;
            }
    }

    /// <summary>A process has ended, and with it what it launched: its part is free for the next.</summary>
    internal void Release(string instance)
    {
        EndLease(instance);
        lock (gate)
        {
            holders.Remove(instance);
            ended.Add(instance);
        }
    }

    /// <summary>Makes the pool the trainer's again, when the last lease has ended.</summary>
    /// <exception cref="TimeoutException">A process that was killed does not end.</exception>
    internal async Task TakeBackAsync(TimeSpan timeout, CancellationToken cancellation)
    {
        while (true)
        {
            Task[] leases;
            lock (gate)
            {
                leases = [.. holders.Values.Select(h => h.Lease?.Task).OfType<Task>()];
                isLent &= leases.Length > 0;
            }
            if (leases.Length == 0)
                return;
            await Task.WhenAll(leases).WaitAsync(timeout, cancellation);
        }
    }
}
