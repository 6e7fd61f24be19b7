namespace SimpleR1.Vllm.Collectives;

/// <summary>
/// What weights are broadcast by: TCP between CPUs (<see cref="TcpCollectives"/>), encrypted where there is a key, or
/// NCCL between GPUs (<see cref="NcclCollectives"/>). The two calls have the form of ncclGetUniqueId and
/// ncclCommInitRank. Disposing it ends the waits for groups that have not formed.
/// </summary>
public interface ICollectives : IDisposable
{
    string Name { get; }

    /// <summary>An id that a group forms around, made by rank 0: 128 bytes, like NCCL's.</summary>
    byte[] NewId();

    /// <summary>Joins a group; returns when all have joined.</summary>
    /// <param name="timeout">Time for all to join, and later for progress.</param>
    /// <exception cref="InvalidDataException">The id is of another kind of collectives.</exception>
    /// <exception cref="TimeoutException">Some did not join; the message counts those that did.</exception>
    IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout);
}
