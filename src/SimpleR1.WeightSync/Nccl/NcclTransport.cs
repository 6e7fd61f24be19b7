using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// Between GPUs: one broadcast from the trainer's flat buffer into the live buffers of all workers at the same time, in place. Trainer and workers form a group
/// of their own, apart from any that training uses; it is kept from update to update as long as its members are the same.
/// </summary>
/// <param name="sendDevices">The trainer's GPUs, for weights that are not on one themselves: each is a rank that keeps a copy in the workers' type and sends its slice, so
/// that uploading and sending take the way of all of them.</param>
/// <param name="timeout">For all to join, and for a broadcast; 60 s by default.</param>
public sealed class NcclTransport(IReadOnlyList<CudaDevice>? sendDevices = null, TimeSpan? timeout = null)
    : IWeightTransport
{
    private readonly IReadOnlyList<CudaDevice> sendDevices = sendDevices ?? [];
    private readonly TimeSpan timeout = timeout ?? TimeSpan.FromSeconds(60);
    private readonly NcclMember receiver = new();
    private readonly Lock gate = new();
    private readonly List<NcclSender> senders = [];
    private (string Name, string Members, byte[] Id) formed; // the group that this rank 0 offers by

    public string Name => "nccl";
    public bool IsCollective => true;

    public bool CanOffer(FlatWeights source) => SendersOf(source) > 0 && NcclSupport.Missing is null;

    /// <inheritdoc/>
    public int SendersOf(FlatWeights source) => source.Device is not null ? 1 : sendDevices.Count;

    /// <inheritdoc/>
    public IEnumerable<string> SenderAddresses(FlatWeights source) =>
        (source.Device is { } gpu ? [gpu] : sendDevices).Select(NcclSupport.Identify);

    /// <inheritdoc/>
    public string? ReceiverAddress(FlatWeights destination) =>
        destination.Device is { } gpu && NcclSupport.Missing is null ? NcclSupport.Identify(gpu) : null;

    /// <param name="plan">May name more trainer ranks than this process has GPUs to send from.</param>
    /// <param name="receivers">The invitations are for trainer ranks of other processes first (<see cref="SendAsync"/>), then for these.</param>
    /// <inheritdoc/>
    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers)
    {
        plan.RequireSource(source);
        int here = Math.Min(SendersOf(source), plan.Trainers);
        NcclPlace[] places;
        lock (gate)
        {
            int size = plan.Trainers + receivers.Count;
            string members = $"{plan.Trainers} {string.Join(' ', receivers)}";
            if (formed.Members != members)
                formed = (Guid.NewGuid().ToString("N"), members, NcclCommunicator.NewId());
            places = [.. Enumerable.Range(0, size).Select(rank => new NcclPlace(formed.Name, rank, size, formed.Id))];
        }
        var broken = new CancellationTokenSource();
        var sent = Task.WhenAll(Enumerable.Range(0, here).Select(SendAsync).ToArray());
        return new(
            [.. places.Skip(here).Select(place => new WeightInvitation(Name, place.ToString(), plan))],
            sent,
            () =>
            {
                broken.Cancel();
                try
                {
                    sent.Wait(CancellationToken.None);
                } // polls for the cancellation; reads the weights until then
                catch (AggregateException) { } // whoever waits for the sending has it
            }
        );

        async Task SendAsync(int rank)
        {
            try
            {
                await Sender(source, rank).SendAsync(places[rank], source, plan, timeout, broken.Token);
            }
            catch
            {
                lock (gate)
                    if (formed.Name == places[0].Group)
                        formed = default;
                broken.Cancel(); // the other ranks here wait for what can't come
                throw;
            }
        }
    }

    /// <summary>The part of a trainer rank of another process in rank 0's offer: its slice of the weights.</summary>
    public Task SendAsync(WeightInvitation invitation, FlatWeights source, CancellationToken cancellation) =>
        Sender(source, 0)
            .SendAsync(NcclPlace.Parse(invitation.Address), source, invitation.Plan, timeout, cancellation);

    private NcclSender Sender(FlatWeights source, int rank)
    {
        lock (gate)
        {
            while (senders.Count <= rank)
                senders.Add(new(source.Device ?? sendDevices[senders.Count]));
            return senders[rank];
        }
    }

    public bool CanReceive(WeightInvitation invitation) => invitation.Transport == Name && NcclSupport.Missing is null;

    public ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        var plan = invitation.Plan;
        plan.RequireSame(destination);
        var gpu =
            destination.Device
            ?? throw new InvalidOperationException("NCCL writes to GPUs' memory, and these weights are in the CPU's");
        receiver.Broadcast(gpu, NcclPlace.Parse(invitation.Address), destination.Pointer, plan, timeout, cancellation);
        return ReceivedWeights.Of(destination);
    }

    public void Dispose()
    {
        foreach (var sender in senders)
            sender.Dispose();
        receiver.Dispose();
    }
}
