using System.Diagnostics;
using SimpleR1.Models;

namespace SimpleR1.WeightSync;

/// <summary>What a worker holds after a transfer.</summary>
/// <param name="Hash">
/// The <see cref="WeightHash"/> of the destination after the transfer, in its own element type.
/// </param>
/// <param name="HashSeconds">
/// Time to compute the hash after the last byte; 0 where it was computed while the bytes arrived.
/// </param>
public readonly record struct ReceivedWeights(ulong Hash, double HashSeconds = 0)
{
    /// <summary>Hashes what has arrived.</summary>
    internal static ReceivedWeights Of(FlatWeights destination)
    {
        long start = Stopwatch.GetTimestamp();
        ulong hash = WeightHash.Of(destination);
        return new(hash, Stopwatch.GetElapsedTime(start).TotalSeconds);
    }
}
