using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// One trainer rank's end of a broadcast, with its own thread and stream. Weights that lie on its GPU in the workers'
/// type are sent from where they are. Of other weights it keeps a copy in that type on the GPU, and updates the slice
/// that it owns.
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

    /// <param name="invitation">The place of this rank, and what is sent.</param>
    /// <param name="source">Weights on the CPU, or on this GPU with no pending writes.</param>
    public Task SendAsync(
        WeightInvitation invitation,
        FlatWeights source,
        TimeSpan timeout,
        CancellationToken cancellation
    ) =>
        thread.RunAsync(() =>
        {
            var sent = InPlaceOrCopied(source, invitation);
            member.Broadcast(gpu, sent.Pointer, invitation, timeout, cancellation);
        });

    private FlatWeights InPlaceOrCopied(FlatWeights source, WeightInvitation invitation)
    {
        var plan = invitation.Plan;
        if (source.Device is not null && plan.SourceType == plan.ElementType)
            return source;
        int rank = NcclPlace.Parse(invitation.Address).Rank;
        return copy.Of(source, plan.ElementType, plan.Slices().Where(s => s.Owner == rank));
    }

    public void Dispose()
    {
        thread.Dispose();
        member.Dispose();
        copy.Dispose();
    }
}
