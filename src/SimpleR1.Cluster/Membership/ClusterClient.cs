using SimpleR1.Cluster.Wire;

namespace SimpleR1.Cluster.Membership;

/// <summary>A person's questions to a cluster.</summary>
public static class ClusterClient
{
    private static readonly TimeSpan AnswerTimeout = TimeSpan.FromSeconds(10);

    /// <exception cref="IOException">There is no head, or it has another key.</exception>
    /// <exception cref="TimeoutException">The head does not answer.</exception>
    public static async Task<ClusterStatus> StatusAsync(HeadAddress head, CancellationToken cancellation)
    {
        var reply = await AskAsync(head, new(HeadAsk.Status), cancellation);
        return reply.Status
            ?? throw new InvalidDataException("The head answered without a status; is it of another version?");
    }

    /// <summary>Asks a worker to take no more work, finish what it has, and leave.</summary>
    /// <exception cref="ArgumentException">There is no such worker; the message names those there are.</exception>
    public static async Task DrainAsync(HeadAddress head, string worker, CancellationToken cancellation)
    {
        var reply = await AskAsync(head, new(HeadAsk.Drain, Worker: worker), cancellation);
        if (reply.Error is { } error)
            throw new ArgumentException(error);
    }

    private static async Task<HeadReply> AskAsync(HeadAddress head, HeadRequest request, CancellationToken cancellation)
    {
        await using var connection = await HeadConnection.ConnectAsync(
            head,
            HelloMessage.Create(MemberRole.Observer),
            AnswerTimeout,
            cancellation
        );
        return await connection.AskAsync(request, AnswerTimeout, cancellation);
    }
}
