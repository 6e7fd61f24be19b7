namespace SimpleR1.WeightSync;

/// <summary>
/// What a receiver needs to fetch one weight set. It travels over the control plane as JSON; the weights do not.
/// </summary>
/// <param name="Transport"><see cref="IWeightTransport.Name"/> of the transport that made it.</param>
/// <param name="Address">Private to the transport; may hold a secret.</param>
/// <param name="Plan">What the sender will send.</param>
public sealed record WeightInvitation(string Transport, string Address, BroadcastPlan Plan);

/// <summary>
/// A weight set that receivers may fetch until this is disposed. Until then the source must neither change nor be
/// freed.
/// </summary>
/// <param name="invitations">One for each receiver, in their order.</param>
/// <param name="sending">
/// The sender's own work in addition to answering receivers; it fails if any receiver is not reached.
/// </param>
/// <param name="end">
/// Cancels what still runs, and returns when nothing reads the source any more on the sender's side.
/// </param>
public sealed class WeightOffer(IReadOnlyList<WeightInvitation> invitations, Task sending, Action end) : IDisposable
{
    private Action? end = end;

    public IReadOnlyList<WeightInvitation> Invitations => invitations;
    public Task Sending => sending;

    public void Dispose() => Interlocked.Exchange(ref end, null)?.Invoke();
}
