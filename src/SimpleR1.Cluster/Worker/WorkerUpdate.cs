using SimpleR1.Cluster.Wire;

namespace SimpleR1.Cluster.Worker;

/// <summary>An update that is under way on a worker, with its last attempt to receive the weights.</summary>
internal sealed class WorkerUpdate(PrepareMessage message)
{
    private CancellationTokenSource cancellation = new();
    private int lastCancelled;

    public PrepareMessage Message => message;

    /// <summary>Number of the last attempt; null before the first.</summary>
    public int? Attempt { get; private set; }

    /// <summary>The receipt of the last attempt.</summary>
    public Task<ReceiptMessage> Receipt { get; private set; } =
        Task.FromException<ReceiptMessage>(new InvalidOperationException("Nothing has been received"));

    /// <summary>Begins an attempt and cancels the one before.</summary>
    /// <returns>
    /// Requested when the attempt is cancelled, which may have happened before it began: the two calls can overtake
    /// each other.
    /// </returns>
    public CancellationToken Begin(int attempt, Task<ReceiptMessage> receipt)
    {
        cancellation.Cancel();
        cancellation = new();
        if (attempt <= lastCancelled)
            cancellation.Cancel();
        Attempt = attempt;
        Receipt = receipt;
        return cancellation.Token;
    }

    /// <summary>Cancels this attempt and those before it, even where it has not begun.</summary>
    public void Cancel(int attempt)
    {
        lastCancelled = Math.Max(lastCancelled, attempt);
        if (Attempt == attempt)
            cancellation.Cancel();
    }

    /// <summary>Cancels the last attempt.</summary>
    public void CancelCurrent() => cancellation.Cancel();
}
