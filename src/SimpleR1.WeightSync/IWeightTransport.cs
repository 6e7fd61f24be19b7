using SimpleR1.Models;

namespace SimpleR1.WeightSync;

/// <summary>
/// A way for weights to get from the trainer's flat buffer into a worker's live one. It makes no copy in between that
/// another element type or device does not need. The trainer calls <see cref="Offer"/>, each worker
/// <see cref="Receive"/>, in any number of rounds. <see cref="WeightTransports"/> makes the ones there are.
/// </summary>
public interface IWeightTransport : IDisposable
{
    string Name { get; }

    /// <summary>
    /// Whether all receivers must take part at the same time: when one is lost, the others start again without it.
    /// </summary>
    bool IsCollective { get; }

    /// <summary>
    /// Whether receivers compute with the sender's memory itself. Such a receiver can be reached by no other transport,
    /// which would write to the sender's weights, and others can't be reached by this one.
    /// </summary>
    bool IsInPlace => false;

    /// <summary>Whether this transport sends from the CPU's memory: weights on a GPU, from a copy there.</summary>
    bool SendsFromHost => false;

    /// <summary>
    /// Bytes of weights that this end has sent over the network, headers not counted; 0 where the transport does not
    /// count.
    /// </summary>
    long SentBytes => 0;

    /// <summary>
    /// Whether <see cref="Receive"/> itself keeps <see cref="FlatWeights.ProvenHash"/> true, so that the destination
    /// can be the base of a delta. Where it does not, the caller clears the hash first.
    /// </summary>
    bool KeepsProvenBase => false;

    /// <summary>Whether this transport can send these weights (it depends on where their memory is).</summary>
    bool CanOffer(FlatWeights source);

    /// <summary>
    /// Trainer ranks of this process that share the sending, each its own slice: <see cref="BroadcastPlan.Trainers"/>.
    /// </summary>
    int SendersOf(FlatWeights source) => 1;

    /// <summary>
    /// The addresses that the trainer's own ranks take in a group that has each address once. A worker whose
    /// <see cref="ReceiverAddress"/> is one of them cannot take part.
    /// </summary>
    IEnumerable<string> SenderAddresses(FlatWeights source) => [];

    /// <summary>
    /// The address at which a collective transport or one in place reaches these weights; null where it cannot, and for
    /// transports whose receivers need no address because they follow the sender's.
    /// </summary>
    string? ReceiverAddress(FlatWeights destination) => null;

    /// <summary>Lets receivers fetch <paramref name="source"/>, exactly as <paramref name="plan"/> says.</summary>
    /// <param name="receivers">Names of the receivers, the same from update to update.</param>
    WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers);

    /// <summary>
    /// Whether this process can follow the invitation; where it cannot, the caller tries the next best.
    /// </summary>
    bool CanReceive(WeightInvitation invitation);

    /// <summary>
    /// Fetches the weights into <paramref name="destination"/>; its <see cref="FlatWeights.Version"/> is the caller's
    /// to set. Synchronous: a worker runs it on its engine's thread, between two steps. After an exception the contents
    /// of the destination are undefined.
    /// </summary>
    /// <param name="timeout">Longest time without progress.</param>
    /// <param name="cancellation">Cancels the transfer, because a receiver of the same group was lost.</param>
    /// <exception cref="InvalidOperationException">
    /// The plan does not fit the destination; nothing was written.
    /// </exception>
    /// <exception cref="TimeoutException">The sender made no progress; the message names what was awaited.</exception>
    /// <exception cref="IOException">The connection to the sender was lost, or a chunk stayed damaged.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellation"/> was requested.</exception>
    ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation = default
    );
}
