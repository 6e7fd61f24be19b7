using System.Collections.Concurrent;

namespace SimpleR1.Cluster.Membership;

/// <summary>Members that announced their end. One that is lost is declared dead without a word of its own.</summary>
internal sealed class Departures(ISiloStatusOracle membership) : ISiloStatusListener
{
    private readonly ConcurrentDictionary<string, bool> names = [];

    public bool Contains(MemberName name) => names.ContainsKey(name.ToString());

    public void SiloStatusChangeNotification(SiloAddress address, SiloStatus status)
    {
        bool announcesEnd = status is SiloStatus.ShuttingDown or SiloStatus.Stopping;
        if (announcesEnd && membership.TryGetSiloName(address, out string? name) && name is not null)
            names[name] = true;
    }
}
