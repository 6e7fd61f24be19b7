namespace SimpleR1.Cluster;

/// <summary>A head in this process and worker processes on this machine: a whole cluster with nothing to install.</summary>
public sealed class LocalCluster : IAsyncDisposable
{
    private readonly HeadSilo head;
    private bool disposed;

    private LocalCluster(HeadSilo head, WorkerPool workers)
    {
        this.head = head;
        Workers = workers;
    }

    public WorkerPool Workers { get; }
    /// <summary>Port of the head on the loopback interface.</summary>
    public int Port => head.Endpoint.Port;

    /// <summary>Starts the head, and the workers in the background: the first push of weights waits for them.</summary>
    /// <exception cref="IOException">The configured port is taken.</exception>
    public static async Task<LocalCluster> StartAsync(ClusterOptions options, WorkerSetup setup, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Workers, 1);
        var head = await HeadSilo.StartAsync(options.Port, options.LogFolder, cancellation);
        return new(head, new(head, options, setup));
    }

    /// <summary>Ends the workers, then the head.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref disposed, true)) return;
        await Workers.DisposeAsync();
        await head.DisposeAsync();
    }
}
