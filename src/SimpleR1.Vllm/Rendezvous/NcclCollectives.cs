using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>Groups of vLLM's protocol between GPUs: <see cref="IWeightGroup.Broadcast"/> takes device memory of this GPU. NCCL encrypts nothing.</summary>
/// <param name="gpu">With a stream that nothing else uses meanwhile (<see cref="CudaDevice.WithOwnStream"/>).</param>
public sealed class NcclCollectives(CudaDevice gpu) : ICollectives
{
    private readonly CancellationTokenSource disposed = new();

    public string Name => "nccl";

    /// <exception cref="DllNotFoundException">NCCL is not installed; says how to.</exception>
    /// <inheritdoc/>
    public byte[] NewId() => NcclCommunicator.NewId();

    /// <exception cref="DllNotFoundException">NCCL is not installed; says how to.</exception>
    /// <exception cref="IOException">NCCL says no (it has another version than the others', for one), or another process was lost.</exception>
    /// <inheritdoc/>
    public IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout)
    {
        try
        {
            var communicator = NcclCommunicator.Join(gpu, id, rank, worldSize, timeout, disposed.Token);
            communicator.WarmUp(gpu, timeout, disposed.Token);
            return new Group(gpu, communicator, rank, timeout);
        }
        catch (OperationCanceledException)
        {
            throw new ObjectDisposedException(nameof(NcclCollectives));
        }
    }

    public void Dispose() => disposed.Cancel(); // who still waits for a group

    private sealed class Group(CudaDevice gpu, NcclCommunicator communicator, int rank, TimeSpan timeout) : IWeightGroup
    {
        private readonly CancellationTokenSource disposed = new();
        private readonly Lock gate = new(); // held while the communicator is in use: it must not be freed meanwhile
        private bool left;

        public CudaDevice? Device => gpu;

        public void Broadcast(nint memory, long bytes)
        {
            lock (gate)
            {
                ObjectDisposedException.ThrowIf(disposed.IsCancellationRequested, this);
                if (left)
                    throw new IOException("this process left the group when something failed; form a new one");
                try
                {
                    communicator.Broadcast(
                        gpu,
                        [(memory, bytes, 0)],
                        $"a broadcast of {bytes:N0} bytes from rank 0, as rank {rank}",
                        timeout,
                        disposed.Token
                    );
                }
                catch (Exception e)
                {
                    left = true;
                    communicator.Dispose(); // the others get to know: what they have under way fails
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
