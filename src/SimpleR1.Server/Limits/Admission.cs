using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>Admits requests: a bounded number of sequences at once, and none while the server drains.</summary>
internal sealed class Admission(Func<int> capacity)
{
    private readonly Lock gate = new();
    private readonly TaskCompletionSource idle = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int inside;
    private bool closed;

    /// <summary>Sequences of all admitted requests.</summary>
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

    /// <returns>Dispose it when the answer is sent.</returns>
    /// <exception cref="ApiException">There is no room now (429), or the server is stopping (503).</exception>
    public IDisposable Enter(int sequences)
    {
        lock (gate)
        {
            if (closed)
                throw StoppingError();
            int most = capacity();
            if (inside + sequences > most)
                throw new ApiException(
                    StatusCodes.Status429TooManyRequests,
                    $"{inside} sequences are running or waiting, {sequences} more would exceed this server's limit of "
                        + $"{most}; try again",
                    retryAfter: 1
                );
            inside += sequences;
        }
        return new Visit(this, sequences);
    }

    /// <summary>Admits no more requests; completes when all admitted ones have ended.</summary>
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

    /// <summary>The error of a request that comes too late, or that outlasts the drain timeout.</summary>
    public static ApiException StoppingError() =>
        new(
            StatusCodes.Status503ServiceUnavailable,
            "This server is stopping; use another one, or try again when it is back",
            retryAfter: 10
        );

    private sealed class Visit(Admission owner, int sequences) : IDisposable
    {
        private int remaining = sequences;

        public void Dispose()
        {
            int leaving = Interlocked.Exchange(ref remaining, 0);
            lock (owner.gate)
            {
                owner.inside -= leaving;
                if (owner.closed && owner.inside == 0)
                    owner.idle.TrySetResult();
            }
        }
    }
}
