using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace SimpleR1.Cluster.Membership;

/// <summary>Places a grain on the silo that its key names, and nowhere else.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class PinToSiloAttribute() : PlacementAttribute(new PinToSilo());

[Serializable, GenerateSerializer, Immutable]
internal sealed class PinToSilo : PlacementStrategy;

internal sealed class PinToSiloDirector : IPlacementDirector
{
    public Task<SiloAddress> OnAddActivation(
        PlacementStrategy strategy,
        PlacementTarget target,
        IPlacementContext context
    )
    {
        var silo = SiloAddress.FromParsableString(target.GrainIdentity.Key.ToString()!);
        if (!context.GetCompatibleSilos(target).Contains(silo))
            throw new OrleansException($"The worker at {silo} is no member of the cluster");

        return Task.FromResult(silo);
    }
}
