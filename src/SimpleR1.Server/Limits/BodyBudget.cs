using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>
/// The bytes of request bodies that the server may hold at one moment, all requests together: thousands of large
/// uploads at once must not fill the memory.
/// </summary>
internal sealed class BodyBudget(long limit)
{
    private long used;

    public long Used => Interlocked.Read(ref used);

    /// <exception cref="ApiException">The bodies of other requests leave no room (429).</exception>
    public void Take(int bytes)
    {
        if (Interlocked.Add(ref used, bytes) <= limit)
            return;
        Return(bytes);
        throw new ApiException(
            StatusCodes.Status429TooManyRequests,
            $"The requests that this server is receiving fill its limit of {limit >> 20} MiB; try again",
            retryAfter: 1
        );
    }

    public void Return(int bytes) => Interlocked.Add(ref used, -bytes);
}
