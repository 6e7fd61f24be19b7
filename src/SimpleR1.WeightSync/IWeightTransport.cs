using System.Diagnostics;
using SimpleR1.Models;

namespace SimpleR1.WeightSync;

/// <summary>What a receiver needs to fetch one weight set: travels over the control plane (as JSON), the weights do not.</summary>
/// <param name="Transport"><see cref="IWeightTransport.Name"/> of the transport that made it.</param>
/// <param name="Address">The transport's own business; may hold a secret.</param>
/// <param name="Plan">What the sender will send.</param>
public sealed record WeightInvitation(string Transport, string Address, BroadcastPlan Plan);

/// <summary>A weight set that receivers may fetch until this is disposed. The source must not change, nor go away, before.</summary>
/// <param name="invitations">One for each receiver, in their order.</param>
/// <param name="sending">The sender's own part, where it has one beside answering receivers; it fails when they are not all reached.</param>
/// <param name="end">Breaks off what still runs, and returns when nothing reads the source any more on the sender's side.</param>
public sealed class WeightOffer(IReadOnlyList<WeightInvitation> invitations, Task sending, Action end) : IDisposable
{
    private Action? end = end;

    public IReadOnlyList<WeightInvitation> Invitations => invitations;
    public Task Sending => sending;

    public void Dispose() => Interlocked.Exchange(ref end, null)?.Invoke();
}

/// <summary>What a worker holds after a transfer.</summary>
/// <param name="Hash">The <see cref="WeightHash"/> of what the destination holds then, in its own element type.</param>
/// <param name="HashSeconds">That computing it took after the last byte; 0 where it was computed on the way.</param>
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

/// <summary>
/// A way for weights to get from the trainer's flat buffer into a worker's live one, with no copy in between that is not needed for another element
/// type or device. The trainer calls <see cref="Offer"/>, each worker <see cref="Receive"/>; both may happen in any number of rounds.
/// </summary>
public interface IWeightTransport : IDisposable
{
    string Name { get; }

    /// <summary>Whether all receivers must take part at the same time: when one is lost, the others start again without it.</summary>
    bool IsCollective { get; }

    /// <summary>Whether this transport can send these weights (it depends on where their memory is).</summary>
    bool CanOffer(FlatWeights source);

    /// <summary>Trainer ranks of this process that share the sending of these weights, each its own slice: <see cref="BroadcastPlan.Trainers"/>.</summary>
    int SendersOf(FlatWeights source) => 1;

    /// <summary>The GPUs that these weights are sent from, where a group can't have one of them twice: workers on them can't take part.</summary>
    IEnumerable<string> GpusOf(FlatWeights source) => [];

    /// <summary>Lets receivers fetch <paramref name="source"/>, exactly as <paramref name="plan"/> says.</summary>
    /// <param name="receivers">Who they are: names that stay the same from update to update.</param>
    WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers);

    /// <summary>Whether this process can follow the invitation, so that the next best can be tried.</summary>
    bool CanReceive(WeightInvitation invitation);

    /// <summary>
    /// Fetches the weights into <paramref name="destination"/>, whose <see cref="FlatWeights.Version"/> is left to the caller. Synchronous:
    /// a worker runs it on its engine's thread, between two steps. After an exception the destination holds anything.
    /// </summary>
    /// <param name="timeout">Longest time without progress.</param>
    /// <param name="cancellation">Breaks it off: a receiver of the same group was lost.</param>
    /// <exception cref="InvalidOperationException">The plan doesn't fit the destination; nothing was written.</exception>
    /// <exception cref="TimeoutException">The sender made no progress; says what was awaited.</exception>
    /// <exception cref="IOException">The sender went away, or a chunk stayed damaged.</exception>
    /// <exception cref="OperationCanceledException">It was broken off.</exception>
    ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation = default
    );
}
