using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>Processes that have joined to receive what rank 0 sends.</summary>
public interface IWeightGroup : IDisposable
{
    /// <summary>The GPU whose memory it broadcasts; null where it is the host's.</summary>
    CudaDevice? Device { get; }

    /// <summary>Rank 0's bytes into the others' memory. All call it in the same order with the same length.</summary>
    /// <exception cref="IOException">A process is gone.</exception>
    /// <exception cref="TimeoutException">A process takes or sends nothing.</exception>
    /// <exception cref="ObjectDisposedException">The group was disposed of meanwhile, here.</exception>
    void Broadcast(nint memory, long bytes);
}

/// <summary>
/// What weights are broadcast by: TCP between CPUs (<see cref="TcpCollectives"/>), encrypted where there is a key, or NCCL between GPUs (<see cref="NcclCollectives"/>),
/// whose ncclGetUniqueId and ncclCommInitRank gave these two calls their form. Disposed, it ends the waits for groups that have not formed.
/// </summary>
public interface ICollectives : IDisposable
{
    string Name { get; }

    /// <summary>An id that a group forms around, made by rank 0: 128 bytes, like NCCL's.</summary>
    byte[] NewId();

    /// <summary>Joins; returns when all have.</summary>
    /// <param name="timeout">For all to join, and later for progress.</param>
    /// <exception cref="InvalidDataException">The id is of another kind.</exception>
    /// <exception cref="TimeoutException">Some did not come; says how many.</exception>
    IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout);
}

/// <summary>
/// How vLLM forms a group without torch.distributed (its <c>StatelessProcessGroup</c>): all meet at a TCPStore that rank 0 serves, rank 0
/// puts the pickled id under <c>broadcast_from/0/0</c>, and all join with it.
/// </summary>
public static class StatelessGroup
{
    private const string IdKey = "broadcast_from/0/0";

    /// <summary>Rank 0.</summary>
    /// <param name="store">Where the others were told to connect to.</param>
    /// <exception cref="TimeoutException">Some did not come.</exception>
    public static IWeightGroup Lead(TcpStoreServer store, ICollectives collectives, int worldSize, TimeSpan timeout)
    {
        using var client = new TcpStoreClient("127.0.0.1", store.Port, timeout);
        for (
            long until = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
            client.Joined < worldSize;
            Thread.Sleep(10)
        )
            if (Environment.TickCount64 > until)
                throw new TimeoutException(
                    $"waited {timeout.TotalSeconds:0.#} s for {worldSize} processes to join; {client.Joined} did"
                );
        byte[] id = collectives.NewId();
        client.Set(IdKey, PickledNcclId.Write(id));
        return collectives.Join(id, 0, worldSize, timeout);
    }

    /// <summary>The id that rank 0 puts there for the others, to join with.</summary>
    /// <exception cref="IOException">Nobody listens there.</exception>
    /// <exception cref="TimeoutException">Rank 0 is not there, or sends no id.</exception>
    /// <exception cref="InvalidDataException">What it sends is no id.</exception>
    public static byte[] ReadId(string host, int port, TimeSpan timeout)
    {
        using var client = new TcpStoreClient(host, port, timeout);
        return PickledNcclId.Read(client.Get(IdKey));
    }
}
