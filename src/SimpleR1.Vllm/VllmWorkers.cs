using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm.Collectives;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Vllm;

/// <summary>
/// Servers that speak vLLM's API, as a trainer's workers. Each request goes to the server with the fewest tokens left
/// to make; a server that fails ends the run.
/// </summary>
public sealed class VllmWorkers : IRolloutWorkers, IDisposable
{
    /// <summary>
    /// Requests that a server has at the same time: enough to fill its batch, few enough that fast servers get more.
    /// </summary>
    private const int RequestsAtOnce = 64;
    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan BusyPause = TimeSpan.FromMilliseconds(200);

    private readonly VllmServers settings;
    private readonly TcpCollectives clear;
    private readonly TcpCollectives keyed;
    private readonly TensorThread copying = new("device copy");
    private readonly CudaDevice? sender; // with a stream of its own
    private readonly DeviceCopy? copy; // of the weights, on the GPU that sends them
    private readonly Place[] places;

    private sealed record Place(VllmConnection Server, NcclCollectives? Nccl)
    {
        public readonly SemaphoreSlim Turns = new(RequestsAtOnce);

        /// <summary>Tokens that its requests may still take, under the lock of the places.</summary>
        public long Outstanding;
    }

    private VllmWorkers(VllmServers settings, IPAddress here)
    {
        this.settings = settings;
        clear = new(here);
        keyed = new(here, settings.ClusterKey);
        if (settings.SendFrom is { } gpu)
        {
            sender = gpu.WithOwnStream();
            copy = new(sender);
        }
        places = [.. settings.Addresses.Select(Connect)];
    }

    private Place Connect(Uri address)
    {
        // Each server has a stream of its own, because all are sent to in parallel.
        var nccl = settings.SendFrom is { } gpu ? new NcclCollectives(gpu.WithOwnStream()) : null;
        var key = address.Scheme == "vllm" ? settings.ClusterKey : null;
        var endpoint = new VllmEndpoint(address, settings.ApiKey, key);
        var server = new VllmConnection(endpoint, key is null ? clear : keyed, Timeout, nccl)
        {
            ForeignRefusal = settings.ForeignRefusal,
        };
        return new(server, nccl);
    }

    /// <summary>Connects, and forms a group with each server.</summary>
    /// <exception cref="IOException">
    /// A server cannot be reached, has another key, or refuses; the message names it.
    /// </exception>
    /// <exception cref="DllNotFoundException">There is a GPU to send from, but NCCL is not installed.</exception>
    /// <exception cref="NotSupportedException">
    /// A server receives weights by NCCL only, and there is no GPU to send from; or its log-probs would be of another
    /// temperature than the samples.
    /// </exception>
    /// <exception cref="TimeoutException">A server's workers did not join.</exception>
    public static async Task<VllmWorkers> StartAsync(VllmServers servers, CancellationToken cancellation)
    {
        if (servers.SendFrom is not null && NcclSupport.Missing is { } missing)
            throw new DllNotFoundException($"workers.send_device: weights can't be sent by NCCL: {missing}");

        var remote = servers.Addresses.FirstOrDefault(s => !s.IsLoopback);
        var here = servers.Here ?? IPAddress.Loopback;
        if (servers.Here is null && remote is not null)
            here = await OwnAddressAsync(remote, cancellation);

        var workers = new VllmWorkers(servers, here);
        try
        {
            await Task.WhenAll(workers.places.Select(p => JoinAsync(p.Server, here, cancellation)));
            return workers;
        }
        catch
        {
            workers.Dispose();
            throw;
        }
    }

    private static async Task JoinAsync(VllmConnection server, IPAddress here, CancellationToken cancellation)
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

    /// <summary>The address that this machine has in the server's direction; finding it out sends nothing.</summary>
    private static async Task<IPAddress> OwnAddressAsync(Uri server, CancellationToken cancellation)
    {
        using var socket = new Socket(SocketType.Dgram, ProtocolType.Udp);
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
                foreach (var completion in await CompletionsAsync(request, stop.Token))
                    finished.Writer.TryWrite(completion);
                if (Interlocked.Decrement(ref left) == 0)
                    finished.Writer.TryComplete();
            }
            catch (Exception e)
            {
                finished.Writer.TryComplete(e); // the reader throws it
            }
        }

        // All requests run at once; the servers' turns limit them.
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

    private async Task<IReadOnlyList<Completion>> CompletionsAsync(
        GenerationRequest request,
        CancellationToken cancellation
    )
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
            return await CompletionsAsync(place.Server, request, cancellation);
        }
        finally
        {
            place.Turns.Release();
            lock (places)
                place.Outstanding -= cost;
        }
    }

    private static async Task<IReadOnlyList<Completion>> CompletionsAsync(
        VllmConnection server,
        GenerationRequest request,
        CancellationToken cancellation
    )
    {
        while (true)
        {
            try
            {
                return await server.GenerateAsync(request, cancellation);
            }
            catch (HttpRequestException e) when (e.StatusCode == HttpStatusCode.TooManyRequests)
            {
                await Task.Delay(BusyPause, cancellation); // the server has other clients too
            }
            catch (HttpRequestException e) when (e.StatusCode == HttpStatusCode.BadRequest)
            {
                throw new ArgumentException(e.Message, e);
            }
            catch (HttpRequestException e)
            {
                throw new IOException($"{server.Address}: {e.Message}", e);
            }
        }
    }

    /// <remarks>
    /// Unlike a cluster's workers, these servers do not prove by a hash what they hold: the protocol has none.
    /// </remarks>
    public async Task<SyncReport> PushWeightsAsync(
        FlatWeights source,
        int version,
        CancellationToken cancellation = default
    )
    {
        // Convert on the sending GPU before any engine is paused.
        var clock = Stopwatch.StartNew();
        bool sendsFromGpu = places.Any(p => p.Server.FromGpu);
        var onGpu = sendsFromGpu ? await copying.RunAsync(() => OnGpu(source)) : source;

        try
        {
            await Task.WhenAll(
                places.Select(p => p.Server.PushWeightsAsync(p.Server.FromGpu ? onGpu : source, version, cancellation))
            );
        }
        catch (HttpRequestException e)
        {
            throw new IOException($"weights version {version} could not be sent: {e.Message}", e);
        }

        return new()
        {
            Version = version,
            Hash = WeightHash.Compute(source.Pointer, source.ByteLength),
            Bytes = onGpu.ByteLength,
            Workers = [.. Enumerable.Range(1, places.Length)],
            Transport = "vllm, " + string.Join(" and ", places.Select(p => p.Server.Transport).Distinct()),
            TransferSeconds = clock.Elapsed.TotalSeconds,
        };
    }

    private FlatWeights OnGpu(FlatWeights source)
    {
        var converted = copy!.Of(source, settings.SendType);
        sender!.Synchronize(); // other streams send the copy
        return converted;
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
        copy?.Dispose();
    }
}
