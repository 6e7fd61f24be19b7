using SimpleR1.Models;
using SimpleR1.WeightSync;

namespace SimpleR1.Cluster.Trainer.Weights;

/// <summary>Workers of one element type to which the same transports offer the weights.</summary>
/// <param name="Transports">
/// One collective transport, or one in place, or all others that can send; empty where the weights cannot reach these
/// workers.
/// </param>
/// <param name="AddressesTaken">
/// Whether the workers were kept out of a collective because their addresses in it are taken.
/// </param>
internal sealed record UpdateGroup(
    List<RemoteWorker> Members,
    IReadOnlyList<IWeightTransport> Transports,
    bool AddressesTaken = false
)
{
    public bool IsCollective => Transports is [{ IsCollective: true }];

    /// <summary>Made by <see cref="UpdateOffers.MakeOffers"/>, one for each transport.</summary>
    public IReadOnlyList<WeightOffer> Offers { get; init; } = [];

    /// <summary>The trainer's own part in the transfer of a collective.</summary>
    public Task Sending => Offers[0].Sending;

    /// <summary>The invitations for one member, in the order of the transports.</summary>
    public IEnumerable<WeightInvitation> Invitations(RemoteWorker member) =>
        Offers.Select(offer => offer.Invitations[Members.IndexOf(member)]);
}

/// <summary>
/// Decides which workers receive together and by what, and makes the offers to them. Disposing it ends the offers.
/// </summary>
internal sealed class UpdateOffers(UpdateRequest request, IReadOnlyList<IWeightTransport> transports) : IDisposable
{
    private readonly List<WeightOffer> offers = [];
    private FlatWeights? onHost; // copied once an update, when a worker needs it

    /// <summary>
    /// Who goes together: of each element type, the workers that compute with the trainer's memory, those that a
    /// collective transport reaches, and the rest. Where the rest have no transport of their own, the collective one is
    /// used again even for workers that are to be sent to one by one.
    /// </summary>
    public IReadOnlyList<UpdateGroup> Groups(IEnumerable<RemoteWorker> workers, bool collectively)
    {
        var source = request.Source;
        IWeightTransport[] usable = [.. transports.Where(CanOffer)];
        IWeightTransport[] single = [.. usable.Where(t => !t.IsCollective && !t.IsInPlace)];
        bool canGoTogether = collectively || transports.All(t => t.IsCollective || t.IsInPlace);
        var collective = canGoTogether ? usable.FirstOrDefault(t => t.IsCollective) : null;
        var inPlace = transports.FirstOrDefault(t => t.IsInPlace);
        var mapping = workers.ToLookup(w => inPlace is not null && w.Reach.ContainsKey(inPlace.Name));
        var groups = InPlace(mapping[true], usable);

        foreach (var sameType in mapping[false].GroupBy(w => w.ElementType))
        {
            // A collective has each address once: the trainer's first, then the workers'.
            HashSet<string> taken = [.. collective?.SenderAddresses(source) ?? []];
            var together = new List<RemoteWorker>();
            var excluded = new HashSet<RemoteWorker>();
            foreach (var worker in sameType)
                if (collective is not null && worker.Reach.TryGetValue(collective.Name, out string? address))
                    if (taken.Add(address))
                        together.Add(worker);
                    else
                        excluded.Add(worker);
            if (together.Count > 0)
                groups.Add(new(together, [collective!]));

            // The others go one by one. Where they cannot, the groups differ in the reason.
            List<RemoteWorker> rest = [.. sameType.Except(together)];
            if (rest.Count > 0 && single.Length > 0)
                groups.Add(new(rest, single));
            else
                groups.AddRange(rest.GroupBy(excluded.Contains).Select(g => new UpdateGroup([.. g], [], g.Key)));
        }
        return groups;
    }

    /// <summary>The workers that compute with the trainer's memory.</summary>
    private static List<UpdateGroup> InPlace(IEnumerable<RemoteWorker> workers, IWeightTransport[] usable)
    {
        IWeightTransport[] inPlace = [.. usable.Where(t => t.IsInPlace)];
        return [.. workers.GroupBy(w => w.ElementType).Select(same => new UpdateGroup([.. same], inPlace))];
    }

    private bool CanOffer(IWeightTransport transport) =>
        transport.CanOffer(request.Source) || transport.SendsFromHost && request.Source.Device is not null;

    /// <summary>The weights where a transport can send them from.</summary>
    private FlatWeights SourceFor(IWeightTransport transport) =>
        transport.CanOffer(request.Source) ? request.Source : onHost ??= request.HostCopy.Of(request.Source);

    /// <summary>Offers the weights to a group's members by each of its transports.</summary>
    public UpdateGroup MakeOffers(UpdateGroup group)
    {
        var plan = BroadcastPlan.For(request.Source, request.Version, held: group.Members[0].ElementType);
        string[] receivers = [.. group.Members.Select(w => w.Instance)];
        var made = new List<WeightOffer>();
        foreach (var transport in group.Transports)
        {
            var source = SourceFor(transport);
            var offer = transport.Offer(source, plan with { Trainers = transport.SendersOf(source) }, receivers);
            offers.Add(offer);
            made.Add(offer);
        }
        return group with { Offers = made };
    }

    /// <summary>Returns when nothing reads the source any more on the trainer's side.</summary>
    public void Dispose()
    {
        foreach (var offer in offers)
            offer.Dispose();
    }
}
