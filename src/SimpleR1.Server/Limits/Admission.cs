using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>Who may come in: a bounded number of sequences at once, and nobody once the server drains.</summary>
internal sealed class Admission(Func<int> capacity)
{
    private readonly Lock gate = new();
    private readonly TaskCompletionSource idle = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int inside;
    private bool closed;

    public int Inside
    {
        get
        {
            lock (gate)
                return inside;
        }
    }
    public bool Closed
    {
        get
        {
            lock (gate)
                return closed;
        }
    }

    /// <returns>To be disposed when the answer is sent.</returns>
    /// <exception cref="ApiException">429: there is no room now. 503: the server is stopping.</exception>
    public IDisposable Enter(int sequences)
    {
        lock (gate)
        {
            if (closed)
                throw Stopping();
            if (capacity() is var most && inside + sequences > most)
                throw new ApiException(
                    StatusCodes.Status429TooManyRequests,
                    $"{inside} sequences are running or waiting, {sequences} more would exceed this server's limit of {most}; try again",
                    retryAfter: 1
                );
            inside += sequences;
        }
        return new Visit(this, sequences);
    }

    /// <summary>Lets nobody in any more; completes when all are out.</summary>
    public Task CloseAsync()
    {
        lock (gate)
        {
            closed = true;
            if (inside == 0)
                idle.TrySetResult();
        }
        return idle.Task;
    }

    public static ApiException Stopping() =>
        new(
            StatusCodes.Status503ServiceUnavailable,
            "This server is stopping; ask another one, or again when it is back",
            retryAfter: 10
        );

    private sealed class Visit(Admission owner, int sequences) : IDisposable
    {
        private int left = sequences;

        public void Dispose()
        {
            int leaving = Interlocked.Exchange(ref left, 0);
            lock (owner.gate)
            {
                owner.inside -= leaving;
                if (owner.closed && owner.inside == 0)
                    owner.idle.TrySetResult();
            }
        }
    }
}
