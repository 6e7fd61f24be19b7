using System.Globalization;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Sync.Nccl;

/// <summary>
/// Between GPUs: one broadcast from the trainer's flat buffer into the live buffers of all workers at the same time, in place. Trainer and workers form a group
/// of their own, apart from any that training uses; it is kept from update to update as long as its members are the same.
/// With several trainer ranks (<see cref="BroadcastPlan.Trainers"/>) each sends the slice that it owns: rank 0 offers, the others accept its invitation to send.
/// </summary>
/// <param name="sendDevice">The trainer's GPU, where its weights are not on one themselves: it keeps a copy in the workers' type there to send from.</param>
/// <param name="timeout">For all to join, and for a broadcast; 60 s by default.</param>
public sealed class NcclTransport(CudaDevice? sendDevice = null, TimeSpan? timeout = null) : IWeightTransport
{
    private readonly TimeSpan timeout = timeout ?? TimeSpan.FromSeconds(60);
    private readonly Lock gate = new();
    private TensorThread? sending;
    private FlatWeights? sendBuffer;
    private DeviceUpload? upload;
    private (string Name, string Members, byte[] Id) formed; // the group that this rank 0 offers by
    private (string Name, NcclCommunicator Communicator)? joined;

    /// <summary>Where an invitation leads: which group, as which rank of how many.</summary>
    private sealed record Place(string Group, int Rank, int Size, byte[] Id)
    {
        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Group}/{Rank}/{Size}/{Convert.ToHexString(Id)}");

        public static Place Parse(string address) => address.Split('/') is [var group, var rank, var size, var id]
            ? new(group, int.Parse(rank, CultureInfo.InvariantCulture), int.Parse(size, CultureInfo.InvariantCulture), Convert.FromHexString(id))
            : throw new InvalidDataException($"'{address}' is no address of an NCCL group");
    }

    /// <summary>Why NCCL can't be used here; null when it can.</summary>
    public static string? Missing => NcclLibrary.Missing;

    public string Name => "nccl";
    public bool IsCollective => true;

    public bool CanOffer(FlatWeights source) => (source.Device ?? sendDevice) is not null && Missing is null;

    /// <param name="receivers">The invitations are for the other trainer ranks first, where the plan has several, then for these.</param>
    /// <inheritdoc/>
    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers)
    {
        plan.RequireSource(source);
        Place[] places;
        lock (gate)
        {
            int size = plan.Trainers + receivers.Count;
            string members = $"{plan.Trainers} {string.Join(' ', receivers)}";
            if (formed.Members != members) formed = (Guid.NewGuid().ToString("N"), members, NcclCommunicator.NewId());
            places = [.. Enumerable.Range(0, size).Select(rank => new Place(formed.Name, rank, size, formed.Id))];
        }
        var broken = new CancellationTokenSource();
        var sent = SendByAsync(places[0], source, plan, broken.Token);
        return new([.. places.Skip(1).Select(place => new WeightInvitation(Name, place.ToString(), plan))], sent, () =>
        {
            broken.Cancel();
            try { sent.Wait(CancellationToken.None); } // polls for the cancellation; reads the weights until then
            catch (AggregateException) { } // whoever waits for the sending has it
        });
    }

    /// <summary>Another trainer rank's part in rank 0's offer: its slice of the weights.</summary>
    public Task SendAsync(WeightInvitation invitation, FlatWeights source, CancellationToken cancellation) => SendByAsync(Place.Parse(invitation.Address), source, invitation.Plan, cancellation);

    private Task SendByAsync(Place place, FlatWeights source, BroadcastPlan plan, CancellationToken cancellation) => (sending ??= new("nccl")).RunAsync(() =>
    {
        var buffer = source.Device is not null && plan.SourceType == plan.ElementType ? source : Copy(source, plan);
        Broadcast(place, buffer, plan, timeout, cancellation);
    });

    /// <summary>The weights in the workers' type on the GPU to send from.</summary>
    private unsafe FlatWeights Copy(FlatWeights source, BroadcastPlan plan)
    {
        if (source.Device is not null || sendDevice is null) throw new NotSupportedException($"weights on a GPU are sent as they are ({plan.SourceType}), not as {plan.ElementType}");
        if (sendBuffer is null || sendBuffer.Flat.dtype != plan.ElementType || sendBuffer.Layout.Length != plan.Length)
        {
            sendBuffer?.Dispose();
            sendBuffer = new(source.Layout, plan.ElementType, sendDevice);
        }
        (upload ??= new(sendDevice)).Write((byte*)source.Pointer, NumberConversion.Of(plan.SourceType), sendBuffer.Pointer, NumberConversion.Of(plan.ElementType), plan.Length);
        return sendBuffer;
    }

    public bool CanReceive(WeightInvitation invitation) => invitation.Transport == Name && Missing is null;

    public ulong Receive(WeightInvitation invitation, FlatWeights destination, TimeSpan timeout, CancellationToken cancellation)
    {
        var plan = invitation.Plan;
        plan.RequireSame(destination);
        if (destination.Device is null) throw new InvalidOperationException("NCCL writes to GPUs' memory, and these weights are in the CPU's");
        Broadcast(Place.Parse(invitation.Address), destination, plan, timeout, cancellation);
        return WeightHash.Of(destination);
    }

    private void Broadcast(Place place, FlatWeights weights, BroadcastPlan plan, TimeSpan timeout, CancellationToken cancellation)
    {
        int size = (int)weights.Flat.element_size();
        try
        {
            if (joined?.Name != place.Group)
            {
                joined?.Communicator.Dispose();
                joined = null;
                joined = (place.Group, NcclCommunicator.Join(weights.Device!, place.Id, place.Rank, place.Size, timeout, cancellation));
            }
            joined.Value.Communicator.Broadcast(weights.Device!, plan.Slices().Select(s => (weights.Pointer + (nint)(s.First * size), s.Length * size, s.Owner)),
                $"the broadcast of weights version {plan.Version} to {place.Size - plan.Trainers} workers, as rank {place.Rank} of {place.Size}", timeout, cancellation);
        }
        catch
        {
            joined?.Communicator.Dispose(); // the others get to know: what they have under way fails
            joined = null;
            lock (gate) if (formed.Name == place.Group) formed = default;
            throw;
        }
    }

    public void Dispose()
    {
        sending?.Dispose();
        joined?.Communicator.Dispose();
        joined = null;
        upload?.Dispose();
        sendBuffer?.Dispose();
    }
}
