using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// Between GPUs: one broadcast from the trainer's flat buffer into the live buffers of all workers at the same time, in
/// place. Trainer and workers form their own group, apart from any that training uses. The group is kept from update to
/// update as long as its members are the same.
/// </summary>
/// <param name="sendDevices">
/// The trainer's GPUs, for weights that are not on a GPU themselves. Each is a rank that keeps a copy in the workers'
/// type and sends its slice, so that upload and broadcast use the links of all of them.
/// </param>
/// <param name="timeout">Time for all to join, and for a broadcast; 60 s by default.</param>
public sealed class NcclTransport(IReadOnlyList<CudaDevice>? sendDevices = null, TimeSpan? timeout = null)
    : IWeightTransport
{
    private readonly IReadOnlyList<CudaDevice> sendDevices = sendDevices ?? [];
    private readonly TimeSpan timeout = timeout ?? TimeSpan.FromSeconds(60);
    private readonly NcclMember receiver = new();
    private readonly Lock gate = new();
    private readonly List<NcclSender> senders = [];
    private Group? formed; // the group in which this process is rank 0

    /// <param name="Members">The number of trainer ranks, and the names of the receivers.</param>
    private sealed record Group(string Name, string Members, byte[] Id);

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
    /// <param name="receivers">
    /// The invitations are for trainer ranks of other processes first (<see cref="SendAsync"/>), then for these.
    /// </param>
    /// <inheritdoc/>
    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers)
    {
        plan.RequireSource(source);
        var group = Form(plan.Trainers, receivers);
        WeightInvitation[] invitations =
        [
            .. Enumerable
                .Range(0, plan.Trainers + receivers.Count)
                .Select(rank => new NcclPlace(group.Name, rank, plan.Trainers + receivers.Count, group.Id))
                .Select(place => new WeightInvitation(Name, place.ToString(), plan)),
        ];

        // The first ranks are this process's own; they send at once.
        int own = Math.Min(SendersOf(source), plan.Trainers);
        var cancellation = new CancellationTokenSource();
        var sending = Task.WhenAll(
            Enumerable.Range(0, own).Select(rank => SendOwnAsync(rank, invitations[rank], source, group, cancellation))
        );
        return new(invitations[own..], sending, () => End(sending, cancellation));
    }

    /// <summary>The group of these members: the last one where they are the same.</summary>
    private Group Form(int trainers, IReadOnlyList<string> receivers)
    {
        string members = $"{trainers} {string.Join(' ', receivers)}";
        lock (gate)
        {
            if (formed?.Members != members)
                formed = new(Guid.NewGuid().ToString("N"), members, NcclCommunicator.NewId());
            return formed;
        }
    }

    private async Task SendOwnAsync(
        int rank,
        WeightInvitation invitation,
        FlatWeights source,
        Group group,
        CancellationTokenSource cancellation
    )
    {
        try
        {
            await Sender(source, rank).SendAsync(invitation, source, timeout, cancellation.Token);
        }
        catch
        {
            // The group is of no more use.
            // Without the cancellation, this process's other ranks would wait for a broadcast that cannot finish.
            lock (gate)
                if (formed == group)
                    formed = null;
            cancellation.Cancel();
            throw;
        }
    }

    private static void End(Task sending, CancellationTokenSource cancellation)
    {
        cancellation.Cancel();
        try
        {
            sending.Wait(CancellationToken.None); // polls for the cancellation; reads the weights until then
        }
        catch (AggregateException)
        {
            // is reported to those who wait for the sending
        }
    }

    /// <summary>Sends the slice of a trainer rank of another process than rank 0, which made the offer.</summary>
    public Task SendAsync(WeightInvitation invitation, FlatWeights source, CancellationToken cancellation) =>
        Sender(source, 0).SendAsync(invitation, source, timeout, cancellation);

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
        invitation.Plan.RequireSame(destination);
        if (destination.Device is not { } gpu)
            throw new InvalidOperationException("NCCL writes to GPUs' memory, and these weights are in the CPU's");
        receiver.Broadcast(gpu, destination.Pointer, invitation, timeout, cancellation);
        return ReceivedWeights.Of(destination);
    }

    public void Dispose()
    {
        foreach (var sender in senders)
            sender.Dispose();
        receiver.Dispose();
    }
}
