using SimpleR1.Sync.Rendezvous;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Sync.Nccl;

/// <summary>Groups of vLLM's protocol between GPUs: <see cref="IWeightGroup.Broadcast"/> takes device memory of this GPU.</summary>
public sealed class NcclCollectives(CudaDevice gpu) : ICollectives
{
    public string Name => "nccl";

    public byte[] NewId() => NcclCommunicator.NewId();

    public IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout) => new Group(gpu, NcclCommunicator.Join(gpu, id, rank, worldSize, timeout, CancellationToken.None), rank, timeout);

    private sealed class Group(CudaDevice gpu, NcclCommunicator communicator, int rank, TimeSpan timeout) : IWeightGroup
    {
        private readonly CancellationTokenSource disposed = new();

        public void Broadcast(nint memory, long bytes)
        {
            try { communicator.Broadcast(gpu, [(memory, bytes, 0)], $"a broadcast of {bytes:N0} bytes from rank 0, as rank {rank}", timeout, disposed.Token); }
            catch
            {
                communicator.Dispose();
                throw;
            }
        }

        public void Dispose()
        {
            disposed.Cancel();
            communicator.Dispose();
        }
    }
}
