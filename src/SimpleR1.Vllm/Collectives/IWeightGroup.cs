using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Vllm.Collectives;

/// <summary>Processes that have joined to receive what rank 0 sends.</summary>
public interface IWeightGroup : IDisposable
{
    /// <summary>The GPU whose memory the group broadcasts; null where it is the host's.</summary>
    CudaDevice? Device { get; }

    /// <summary>
    /// Broadcasts rank 0's bytes into the others' memory. All ranks call it in the same order with the same length.
    /// </summary>
    /// <exception cref="IOException">A process was lost.</exception>
    /// <exception cref="TimeoutException">A process neither takes nor sends anything.</exception>
    /// <exception cref="ObjectDisposedException">The group was disposed of here during the call.</exception>
    void Broadcast(nint memory, long bytes);
}
