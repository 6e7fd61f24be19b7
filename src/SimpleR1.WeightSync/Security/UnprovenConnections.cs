using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace SimpleR1.WeightSync.Security;

/// <summary>
/// A port's connections that have not proven yet that they belong here. There are so many at most, in all and from one
/// address. One too many drops the oldest: a member needs milliseconds, so that strangers who send nothing are the ones
/// that go, and a member can always join.
/// </summary>
/// <param name="limit">Connections in all; 1,024 by default.</param>
/// <param name="limitOfAddress">
/// Connections of one IPv4 address or one IPv6 network (64 bits): 256 by default, for 64 workers of a machine that each
/// open four connections for weights.
/// </param>
public sealed class UnprovenConnections(int limit = 1024, int limitOfAddress = 256)
{
    private readonly Lock gate = new();
    private readonly LinkedList<Visit> all = []; // the oldest first
    private readonly Dictionary<UInt128, LinkedList<Visit>> byAddress = [];

    /// <summary>Connections that have not proven themselves.</summary>
    public int Count
    {
        get
        {
            lock (gate)
                return all.Count;
        }
    }

    /// <summary>Takes in a connection; the oldest one may have to go for it.</summary>
    /// <param name="remote">The other end; null where it is unknown.</param>
    /// <param name="drop">Closes the connection. It is called on another connection's behalf, and must not wait.</param>
    /// <returns>Dispose it when the connection has proven itself, or has ended.</returns>
    public IDisposable Enter(EndPoint? remote, Action drop)
    {
        var visit = new Visit(this, Network(remote), drop);
        Visit? oldest = null;
        lock (gate)
        {
            if (byAddress.TryGetValue(visit.Network, out var same) && same.Count >= limitOfAddress)
                oldest = same.First!.Value;
            else if (all.Count >= limit)
                oldest = all.First!.Value;
            if (oldest is not null)
                Leave(oldest);

            all.AddLast(visit.InAll);
            if (!byAddress.TryGetValue(visit.Network, out same))
                byAddress.Add(visit.Network, same = []);
            same.AddLast(visit.OfAddress);
        }

        oldest?.Drop();
        return visit;
    }

    /// <summary>The lock must be held.</summary>
    private void Leave(Visit visit)
    {
        if (visit.InAll.List is null)
            return; // dropped, or proven, before

        all.Remove(visit.InAll);
        var same = visit.OfAddress.List!;
        same.Remove(visit.OfAddress);
        if (same.Count == 0)
            byAddress.Remove(visit.Network);
    }

    /// <summary>Who has an IPv6 network has all of its addresses.</summary>
    private static UInt128 Network(EndPoint? remote)
    {
        if (remote is not IPEndPoint { Address: var address })
            return 0;
        if (address.IsIPv4MappedToIPv6)
            address = address.MapToIPv4();

        Span<byte> bytes = stackalloc byte[16];
        address.TryWriteBytes(bytes, out _);
        if (address.AddressFamily == AddressFamily.InterNetworkV6)
            bytes[8..].Clear();
        return BinaryPrimitives.ReadUInt128BigEndian(bytes);
    }

    private sealed class Visit : IDisposable
    {
        private readonly UnprovenConnections owner;

        public Visit(UnprovenConnections owner, UInt128 network, Action drop)
        {
            this.owner = owner;
            Network = network;
            Drop = drop;
            InAll = new(this);
            OfAddress = new(this);
        }

        public UInt128 Network { get; }
        public Action Drop { get; }
        public LinkedListNode<Visit> InAll { get; }
        public LinkedListNode<Visit> OfAddress { get; }

        public void Dispose()
        {
            lock (owner.gate)
                owner.Leave(this);
        }
    }
}
