using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// One trainer rank's end of a broadcast, on a thread and a stream of its own. Weights that lie on its GPU in the workers' type are sent from where they
/// are; of others it keeps a copy in that type there, and brings the slice that it owns up to date.
/// </summary>
internal sealed class NcclSender : IDisposable
{
    private readonly TensorThread thread = new("nccl");
    private readonly NcclMember member = new();
    private readonly CudaDevice gpu;
    private readonly DeviceCopy copy;

    public NcclSender(CudaDevice trainer)
    {
        gpu = trainer.WithOwnStream();
        copy = new(gpu);
    }

    /// <param name="source">On the CPU, or on this GPU with nothing under way that writes to them.</param>
    public Task SendAsync(
        NcclPlace place,
        FlatWeights source,
        BroadcastPlan plan,
        TimeSpan timeout,
        CancellationToken cancellation
    ) =>
        thread.RunAsync(() =>
        {
            var sent =
                source.Device is not null && plan.SourceType == plan.ElementType
                    ? source
                    : copy.Of(source, plan.ElementType, plan.Slices().Where(s => s.Owner == place.Rank));
            member.Broadcast(gpu, place, sent.Pointer, plan, timeout, cancellation);
        });

    public void Dispose()
    {
        thread.Dispose();
        member.Dispose();
        copy.Dispose();
    }
}
