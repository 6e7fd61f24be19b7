using System.Net;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Head;

/// <summary>How a head is reached, and where it keeps the membership.</summary>
public sealed record HeadOptions
{
    /// <summary>The one port that others need to know; 0 is any free one. The silo takes the next one (or any free one with 0).</summary>
    public int Port { get; init; }

    /// <summary>
    /// This machine's address for the cluster. Null is the loopback interface without a key, and the address of the default
    /// route with one.
    /// </summary>
    public IPAddress? Address { get; init; }

    /// <summary>The key that all of the cluster must have; without one everything stays on the loopback interface.</summary>
    public ClusterKey? Key { get; init; }

    /// <summary>
    /// <c>redis://[:PASSWORD@]HOST[:PORT][/DATABASE]</c> keeps the membership there, so that it survives the head; null keeps it
    /// in the head.
    /// </summary>
    public string? Membership { get; init; }

    /// <summary>Tells clusters apart that share a Redis server.</summary>
    public string Name { get; init; } = "default";

    /// <summary>Takes the silo's warnings.</summary>
    public TextWriter SiloLog { get; init; } = TextWriter.Null;

    /// <summary>Takes one line about each thing a person should know.</summary>
    public Action<string> Log { get; init; } = _ => { };
}
