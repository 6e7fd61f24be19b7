using System.Runtime.ExceptionServices;
using SimpleR1.Models;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// The worker's end of <see cref="TcpTransport"/>: several connections, each with its share of the chunks and its own
/// thread.
/// </summary>
/// <param name="connections">Null chooses by cores and size.</param>
internal sealed class TcpReceiver(ClusterKey? key, int? connections) : IDisposable
{
    private const int MaxConnections = 4;
    private const int CoresPerConnection = 4;
    private const int MinBytesPerConnection = 32 << 20;

    private readonly List<ChunkWriter> writers = []; // of the last destination, one for each connection

    /// <inheritdoc cref="IWeightTransport.Receive"/>
    public ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        var plan = invitation.Plan;
        plan.RequireSame(destination);
        destination.Device?.Synchronize(); // other streams will write to them
        ulong held = destination.ProvenHash;
        destination.ProvenHash = 0;

        int count = connections ?? DefaultConnections(plan);
        OpenWriters(destination, count);
        var failure = FetchAll(
            count,
            (i, stop) =>
            {
                int first = (int)((long)plan.Chunks * i / count);
                int end = (int)((long)plan.Chunks * (i + 1) / count);
                new ChunkReader(writers[i], invitation, key, timeout).Fetch(new(first, end - first), held, stop);
            },
            cancellation
        );
        destination.Device?.Use();

        // A socket that was closed by the cancellation fails in its own way.
        if (cancellation.IsCancellationRequested && failure is IOException or ObjectDisposedException)
            failure = new OperationCanceledException(
                $"Receiving weights version {plan.Version} was cancelled",
                failure,
                cancellation
            );
        if (failure is not null)
            ExceptionDispatchInfo.Throw(failure);

        var received = destination.Device is null
            ? new(writers.Take(count).Aggregate(0ul, (sum, writer) => sum + writer.Hash))
            : ReceivedWeights.Of(destination);
        destination.ProvenHash = received.Hash;
        return received;
    }

    private static int DefaultConnections(BroadcastPlan plan)
    {
        long useful = Math.Min(
            Environment.ProcessorCount / CoresPerConnection,
            plan.ByteLength / MinBytesPerConnection
        );
        return (int)Math.Clamp(useful, 1, MaxConnections);
    }

    private void OpenWriters(FlatWeights destination, int count)
    {
        if (writers.Any(w => w.Weights != destination))
            Dispose();
        while (writers.Count < count)
            writers.Add(new(destination));
    }

    /// <summary>
    /// Runs a share on each of <paramref name="count"/> threads, this one included; the first failure cancels the
    /// others.
    /// </summary>
    /// <returns>The first failure; null where there is none.</returns>
    private static Exception? FetchAll(int count, Action<int, CancellationToken> fetch, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Exception? failure = null;
        void Share(int i)
        {
            try
            {
                fetch(i, stop.Token);
            }
            catch (Exception e)
            {
                if (Interlocked.CompareExchange(ref failure, e, null) is null)
                    stop.Cancel();
            }
        }

        var threads = Enumerable
            .Range(1, count - 1)
            .Select(i => new Thread(() => Share(i)) { IsBackground = true, Name = "weights by tcp" })
            .ToArray();
        foreach (var thread in threads)
            thread.Start();
        Share(0);
        foreach (var thread in threads)
            thread.Join();
        return failure;
    }

    public void Dispose()
    {
        foreach (var writer in writers)
            writer.Dispose();
        writers.Clear();
    }
}
