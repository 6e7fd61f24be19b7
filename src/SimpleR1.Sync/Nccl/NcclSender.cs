using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Sync.Nccl;

/// <summary>
/// One trainer rank's end of a broadcast, on a thread and a stream of its own. Weights that lie on its GPU in the workers' type are sent from where they
/// are; of others it keeps a copy in that type there, and refreshes the slice that it owns.
/// </summary>
internal sealed unsafe class NcclSender(CudaDevice trainer) : IDisposable
{
    private readonly CudaDevice gpu = trainer.Beside();
    private readonly TensorThread thread = new("nccl");
    private readonly NcclMember member = new();
    private FlatWeights? copy;
    private DeviceUpload? upload;

    /// <param name="source">On the CPU, or on this GPU with nothing under way that writes to them.</param>
    public Task SendAsync(NcclPlace place, FlatWeights source, BroadcastPlan plan, TimeSpan timeout, CancellationToken cancellation) => thread.RunAsync(() =>
        member.Broadcast(gpu, place, source.Device is not null && plan.SourceType == plan.ElementType ? source.Pointer : Copy(source, plan, place.Rank), plan, timeout, cancellation));

    private nint Copy(FlatWeights source, BroadcastPlan plan, int rank)
    {
        if (source.Device is not null) throw new NotSupportedException($"weights on a GPU are sent as they are ({plan.SourceType}), not as {plan.ElementType}");
        if (copy is null || copy.Flat.dtype != plan.ElementType || copy.Layout.Length != plan.Length)
        {
            copy?.Dispose();
            copy = new(source.Layout, plan.ElementType, gpu);
        }
        var (from, to) = (NumberConversion.Of(plan.SourceType), NumberConversion.Of(plan.ElementType));
        foreach (var slice in plan.Slices().Where(s => s.Owner == rank))
            (upload ??= new(gpu)).Write((byte*)source.Pointer + slice.First * NumberConversion.Size(from), from, copy.Pointer + (nint)(slice.First * NumberConversion.Size(to)), to, slice.Length);
        return copy.Pointer;
    }

    public void Dispose()
    {
        thread.Dispose();
        member.Dispose();
        upload?.Dispose();
        copy?.Dispose();
    }
}
