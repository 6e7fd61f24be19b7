using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// One rank of the groups that weights are sent in. It stays in a group as long as it is invited to the same one.
/// </summary>
internal sealed class NcclMember : IDisposable
{
    private string? joined; // the group's name
    private NcclCommunicator? communicator;

    /// <summary>
    /// Takes part in one weight set's broadcast: each trainer's slice from its memory into everyone else's, in place.
    /// </summary>
    /// <param name="gpu">The GPU with a stream of this thread's, on which the broadcast runs.</param>
    /// <param name="memory">A flat buffer in the workers' type.</param>
    /// <inheritdoc cref="NcclCommunicator.Join" path="/exception"/>
    public void Broadcast(
        CudaDevice gpu,
        nint memory,
        WeightInvitation invitation,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        var plan = invitation.Plan;
        var place = NcclPlace.Parse(invitation.Address);
        int size = (int)(plan.ByteLength / plan.Length); // bytes of an element
        try
        {
            if (joined != place.Group)
            {
                Leave();
                communicator = NcclCommunicator.Join(gpu, place, timeout, cancellation);
                joined = place.Group;
            }
            communicator!.Broadcast(
                gpu,
                plan.Slices().Select(s => (memory + (nint)(s.First * size), s.Length * size, s.Owner)),
                $"the broadcast of weights version {plan.Version} to {place.Size - plan.Trainers} workers, "
                    + $"as rank {place.Rank} of {place.Size}",
                timeout,
                cancellation
            );
        }
        catch
        {
            Leave(); // which fails the others' operations too, so that they do not wait
            throw;
        }
    }

    private void Leave()
    {
        communicator?.Dispose();
        communicator = null;
        joined = null;
    }

    public void Dispose() => Leave();
}
