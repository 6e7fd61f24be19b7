using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Vllm.Collectives;

/// <summary>
/// Groups of vLLM's protocol between GPUs: <see cref="IWeightGroup.Broadcast"/> takes device memory of this GPU. NCCL
/// encrypts nothing.
/// </summary>
/// <param name="gpu">The GPU with a stream that nothing else uses (<see cref="CudaDevice.WithOwnStream"/>).</param>
public sealed class NcclCollectives(CudaDevice gpu) : ICollectives
{
    private readonly CancellationTokenSource disposed = new();

    public string Name => "nccl";

    /// <exception cref="DllNotFoundException">
    /// NCCL is not installed; the message explains how to install it.
    /// </exception>
    /// <inheritdoc/>
    public byte[] NewId() => NcclCommunicator.NewId();

    /// <exception cref="DllNotFoundException">
    /// NCCL is not installed; the message explains how to install it.
    /// </exception>
    /// <exception cref="IOException">
    /// NCCL reports an error (another version than the others', for one), or another process was lost.
    /// </exception>
    /// <inheritdoc/>
    public IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout)
    {
        var place = new NcclPlace("", rank, worldSize, id.ToArray());
        try
        {
            var communicator = NcclCommunicator.Join(gpu, place, timeout, disposed.Token);
            communicator.WarmUp(gpu, timeout, disposed.Token);
            return new Group(gpu, communicator, rank, timeout);
        }
        catch (OperationCanceledException)
        {
            throw new ObjectDisposedException(nameof(NcclCollectives));
        }
    }

    public void Dispose() => disposed.Cancel(); // ends the waits for groups

    private sealed class Group(CudaDevice gpu, NcclCommunicator communicator, int rank, TimeSpan timeout) : IWeightGroup
    {
        private readonly CancellationTokenSource disposed = new();
        private readonly Lock gate = new(); // held while the communicator is in use, so that it is not freed then
        private bool left;

        public CudaDevice? Device => gpu;

        public void Broadcast(nint memory, long bytes)
        {
            lock (gate)
            {
                ObjectDisposedException.ThrowIf(disposed.IsCancellationRequested, this);
                if (left)
                    throw new IOException("this process left the group when something failed; form a new one");
                string awaited = $"a broadcast of {bytes:N0} bytes from rank 0, as rank {rank}";
                try
                {
                    communicator.Broadcast(gpu, [(memory, bytes, 0)], awaited, timeout, disposed.Token);
                }
                catch (Exception e)
                {
                    left = true;
                    communicator.Dispose(); // which fails the others' operations too, so that they do not wait
                    if (e is OperationCanceledException)
                        throw new ObjectDisposedException(nameof(NcclCollectives));
                    throw;
                }
            }
        }

        public void Dispose()
        {
            disposed.Cancel();
            lock (gate)
                communicator.Dispose();
        }
    }
}
