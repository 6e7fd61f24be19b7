using System.Diagnostics;
using System.Net;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Nccl;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.Vllm;

/// <summary>Servers that speak vLLM's API, as a trainer's workers. Each request goes to the server that has the fewest tokens to make; one that fails ends the run.</summary>
public sealed class VllmWorkers : IRolloutWorkers, IDisposable
{
    /// <summary>Requests that a server has at once: enough to fill its batch, few enough that those who finish first get more.</summary>
    private const int RequestsAtOnce = 64;
    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(10);

    private readonly TcpCollectives clear,
        keyed;
    private readonly TensorThread copying = new("device copy");
    private readonly (DeviceCopy Copy, CudaDevice Gpu, ScalarType Type)? from; // sent from a GPU
    private readonly Place[] places;

    private sealed record Place(VllmConnection Server, NcclCollectives? Nccl)
    {
        public readonly SemaphoreSlim Turns = new(RequestsAtOnce);
        public long Outstanding;
    }

    private VllmWorkers(
        IReadOnlyList<Uri> servers,
        string? key,
        ClusterKey? clusterKey,
        IPAddress here,
        (CudaDevice Gpu, ScalarType Type)? from
    )
    {
        (clear, keyed) = (new(here), new(here, clusterKey));
        if (from is var (gpu, type) && gpu.Beside() is var stream)
            this.from = (new(stream), stream, type);
        places =
        [
            .. servers.Select(address =>
            {
                NcclCollectives? nccl = from is var (sender, _) ? new(sender.Beside()) : null; // servers are sent to at the same time
                var (tcp, serverKey) =
                    address.Scheme == "vllm" && clusterKey is not null ? (keyed, clusterKey) : (clear, null);
                return new Place(new(address, key, tcp, Timeout, serverKey, nccl), nccl);
            }),
        ];
    }

    /// <summary>Forms a group with each server.</summary>
    /// <param name="servers">vllm://host:port, with a cluster key the admin port; http:// is for servers without a key, whatever the trainer has.</param>
    /// <param name="key">Their bearer key; null where they want none.</param>
    /// <param name="here">This machine's address for the servers, where they are on others.</param>
    /// <param name="clusterKey">The key of the servers at vllm://; null where they have none.</param>
    /// <param name="from">The GPU of this machine that weights are sent from by NCCL, to servers that take that, and the type in which; null sends from the CPU by TCP.</param>
    /// <exception cref="IOException">A server can't be reached, has another key, or refuses; says which.</exception>
    /// <exception cref="DllNotFoundException">There is a GPU to send from, but no NCCL; says how to get it.</exception>
    /// <inheritdoc cref="VllmConnection.JoinAsync" path="/exception[@cref='T:System.NotSupportedException' or @cref='T:System.TimeoutException']"/>
    public static async Task<VllmWorkers> StartAsync(
        IReadOnlyList<Uri> servers,
        string? key,
        IPAddress? here,
        CancellationToken cancellation,
        ClusterKey? clusterKey = null,
        (CudaDevice Gpu, ScalarType Type)? from = null
    )
    {
        if (from is not null && NcclSupport.Missing is { } missing)
            throw new DllNotFoundException($"workers.send_device: weights can't be sent by NCCL: {missing}");
        here ??= servers.All(s => s.IsLoopback)
            ? IPAddress.Loopback
            : await OwnAddressAsync(servers.First(s => !s.IsLoopback), cancellation);
        var workers = new VllmWorkers(servers, key, clusterKey, here, from);
        async Task JoinAsync(VllmConnection server)
        {
            try
            {
                await server.JoinAsync(here, cancellation);
            }
            catch (HttpRequestException e)
            {
                throw new IOException($"{server.Address}: {e.Message}", e);
            }
        }
        try
        {
            await Task.WhenAll(workers.places.Select(p => JoinAsync(p.Server)));
            return workers;
        }
        catch
        {
            workers.Dispose();
            throw;
        }
    }

    /// <summary>The address that this machine has in the server's direction; nothing is sent to find out.</summary>
    private static async Task<IPAddress> OwnAddressAsync(Uri server, CancellationToken cancellation)
    {
        using var socket = new System.Net.Sockets.Socket(
            System.Net.Sockets.SocketType.Dgram,
            System.Net.Sockets.ProtocolType.Udp
        );
        await socket.ConnectAsync(server.Host, server.Port, cancellation);
        var address = ((IPEndPoint)socket.LocalEndPoint!).Address;
        return address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken enough = default,
        [EnumeratorCancellation] CancellationToken cancellation = default
    )
    {
        if (enough.CanBeCanceled)
            throw new NotSupportedException(
                "Servers that speak vLLM's API can't return unfinished samples; set rollout.carry to 0, or use worker processes"
            );

        var finished = Channel.CreateUnbounded<Completion>();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        int left = requests.Count;
        async Task CompleteAsync(GenerationRequest request)
        {
            try
            {
                foreach (var completion in await OneAsync(request, stop.Token))
                    finished.Writer.TryWrite(completion);
                if (Interlocked.Decrement(ref left) == 0)
                    finished.Writer.TryComplete();
            }
            catch (Exception e)
            {
                finished.Writer.TryComplete(e);
            } // is the reader's
        }
        var running = requests.Select(CompleteAsync).ToArray();
        if (requests.Count == 0)
            finished.Writer.TryComplete();
        try
        {
            await foreach (var completion in finished.Reader.ReadAllAsync(cancellation))
                yield return completion;
        }
        finally
        {
            stop.Cancel();
            await Task.WhenAll(running);
        }
    }

    private async Task<IReadOnlyList<Completion>> OneAsync(GenerationRequest request, CancellationToken cancellation)
    {
        long cost = request.PromptTokens.Length + (long)request.Sampling.Samples * request.Sampling.MaxTokens;
        Place place;
        lock (places)
        {
            place = places.MinBy(p => p.Outstanding)!;
            place.Outstanding += cost;
        }
        await place.Turns.WaitAsync(cancellation);
        try
        {
            while (true)
            {
                try
                {
                    return await place.Server.GenerateAsync(request, cancellation);
                }
                catch (HttpRequestException e) when (e.StatusCode == HttpStatusCode.TooManyRequests)
                {
                    await Task.Delay(200, cancellation);
                } // others use it too
                catch (HttpRequestException e) when (e.StatusCode == HttpStatusCode.BadRequest)
                {
                    throw new ArgumentException(e.Message, e);
                }
                catch (HttpRequestException e)
                {
                    throw new IOException($"{place.Server.Address}: {e.Message}", e);
                }
            }
        }
        finally
        {
            place.Turns.Release();
            lock (places)
                place.Outstanding -= cost;
        }
    }

    /// <remarks>Unlike a cluster's workers, these servers don't prove by a hash what they hold: the protocol has none.</remarks>
    public async Task<SyncReport> PushWeightsAsync(
        FlatWeights source,
        int version,
        CancellationToken cancellation = default
    )
    {
        var clock = Stopwatch.StartNew();
        var sent = places.Any(p => p.Server.FromGpu) ? await copying.RunAsync(() => OnGpu(source)) : source; // before any engine stands still
        try
        {
            await Task.WhenAll(
                places.Select(p => p.Server.PushWeightsAsync(p.Server.FromGpu ? sent : source, version, cancellation))
            );
        }
        catch (HttpRequestException e)
        {
            throw new IOException($"weights version {version} could not be sent: {e.Message}", e);
        }
        double seconds = clock.Elapsed.TotalSeconds;
        string transports = string.Join(" and ", places.Select(p => p.Server.Transport).Distinct());
        return new()
        {
            Version = version,
            Hash = WeightHash.Compute(source.Pointer, source.ByteLength),
            Bytes = sent.ByteLength,
            Workers = [.. Enumerable.Range(1, places.Length)],
            Transport = "vllm, " + transports,
            TransferSeconds = seconds,
        };
    }

    private FlatWeights OnGpu(FlatWeights source)
    {
        var (copy, gpu, type) = from!.Value;
        var sent = copy.Of(source, type);
        gpu.Synchronize(); // it is sent by other streams
        return sent;
    }

    public void Dispose()
    {
        foreach (var place in places)
        {
            place.Server.Dispose();
            place.Nccl?.Dispose();
        }
        clear.Dispose();
        keyed.Dispose();
        copying.Dispose();
        from?.Copy.Dispose();
    }
}
