using System.Globalization;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>Where an invitation leads: which group, as which rank of how many. Trainers come first.</summary>
internal sealed record NcclPlace(string Group, int Rank, int Size, byte[] Id)
{
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Group}/{Rank}/{Size}/{Convert.ToHexString(Id)}");

    /// <exception cref="InvalidDataException">It is no address of a group.</exception>
    public static NcclPlace Parse(string address) =>
        address.Split('/') is [var group, var rank, var size, var id]
            ? new(
                group,
                int.Parse(rank, CultureInfo.InvariantCulture),
                int.Parse(size, CultureInfo.InvariantCulture),
                Convert.FromHexString(id)
            )
            : throw new InvalidDataException($"'{address}' is no address of an NCCL group");
}

/// <summary>One rank of the groups that weights are sent in. It stays in a group as long as it is invited to the same one.</summary>
internal sealed class NcclMember : IDisposable
{
    private (string Name, NcclCommunicator Communicator)? joined;

    /// <summary>Takes part in one weight set's broadcast: each trainer's slice from its memory into everyone else's, in place.</summary>
    /// <param name="gpu">Whose stream it happens on; this thread's.</param>
    /// <param name="memory">Of a flat buffer in the workers' type.</param>
    public void Broadcast(
        CudaDevice gpu,
        NcclPlace place,
        nint memory,
        BroadcastPlan plan,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        int size = (int)(plan.ByteLength / plan.Length);
        try
        {
            if (joined?.Name != place.Group)
            {
                Leave();
                joined = (
                    place.Group,
                    NcclCommunicator.Join(gpu, place.Id, place.Rank, place.Size, timeout, cancellation)
                );
            }
            joined.Value.Communicator.Broadcast(
                gpu,
                plan.Slices().Select(s => (memory + (nint)(s.First * size), s.Length * size, s.Owner)),
                $"the broadcast of weights version {plan.Version} to {place.Size - plan.Trainers} workers, as rank {place.Rank} of {place.Size}",
                timeout,
                cancellation
            );
        }
        catch
        {
            Leave(); // the others get to know: what they have under way fails
            throw;
        }
    }

    private void Leave()
    {
        joined?.Communicator.Dispose();
        joined = null;
    }

    public void Dispose() => Leave();
}
