using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Ipc;

namespace SimpleR1.WeightSync.Ipc;

/// <summary>
/// Between processes on one GPU: the worker's live weights are the trainer's, mapped by CUDA IPC. Nothing moves. What
/// the worker proves by its hash is that it sees the memory as the trainer left it.
/// </summary>
/// <remarks>
/// The trainer's stream has run to its end before it offers, and nothing may write to the weights until the worker's
/// engine has stopped: see <c>ColocatedMemory</c> in SimpleR1.Cluster.
/// </remarks>
public sealed class CudaIpcTransport : IWeightTransport
{
    public string Name => "ipc";
    public bool IsCollective => false;
    public bool IsInPlace => true;

    public bool CanOffer(FlatWeights source)
    {
        if (source.DeviceMemory is not { } memory)
            return false;
        try
        {
            return IpcHandle.Of(memory).Bytes > 0;
        }
        catch (Exception e) when (e is CudaException or ArgumentException)
        {
            return false;
        }
    }

    /// <summary>The handle of the memory that the weights are; null for weights of this process.</summary>
    public string? ReceiverAddress(FlatWeights destination) => destination.DeviceMemory?.MappedFrom?.Name;

    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers)
    {
        plan.RequireSource(source);
        if (source.DeviceMemory is not { } memory)
            throw new InvalidOperationException("only weights on a GPU can be mapped by another process there");
        var handle = IpcHandle.Of(memory);
        return new(
            [.. receivers.Select(_ => new WeightInvitation(Name, handle.Name, plan))],
            Task.CompletedTask,
            () => { }
        );
    }

    public bool CanReceive(WeightInvitation invitation) => invitation.Transport == Name;

    public ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation = default
    )
    {
        invitation.Plan.RequireSame(destination);
        if (ReceiverAddress(destination) != invitation.Address)
            throw new InvalidOperationException(
                "the trainer's weights aren't those that this worker maps: they were allocated again"
            );
        return ReceivedWeights.Of(destination);
    }

    public void Dispose() { }
}
