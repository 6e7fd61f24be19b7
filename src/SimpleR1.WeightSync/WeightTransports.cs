using System.Net;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.Ipc;
using SimpleR1.WeightSync.Nccl;
using SimpleR1.WeightSync.Security;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;

namespace SimpleR1.WeightSync;

/// <summary>What the trainer's end of the transports needs.</summary>
public sealed record TrainerTransportOptions
{
    public WeightTransportChoice Choice { get; init; } = WeightTransportChoice.Auto;

    /// <summary>The trainer's address, to which workers connect for weights.</summary>
    public IPAddress Address { get; init; } = IPAddress.Loopback;

    /// <summary>Encrypts and authenticates TCP; null where the cluster has no key.</summary>
    public ClusterKey? Key { get; init; }

    /// <summary>Over TCP, send only what has changed since the last version, where that is less.</summary>
    public bool Delta { get; init; }

    /// <summary>
    /// Whether the trainer names GPUs to send from: <see cref="WeightTransportChoice.Auto"/> then tries NCCL first.
    /// </summary>
    public bool HasSendGpus { get; init; }

    /// <summary>Finds the GPUs that NCCL sends from; called only where NCCL is used.</summary>
    public Func<IReadOnlyList<CudaDevice>> SendGpus { get; init; } = () => [];

    /// <summary>Time for an NCCL group to form, and for one broadcast; 60 s by default.</summary>
    public TimeSpan? NcclTimeout { get; init; }
}

/// <summary>
/// The transports there are, made from a run's choice, for both ends. Nothing outside this project names one of them:
/// a new transport is a class that implements <see cref="IWeightTransport"/>, and a line in each list here.
/// </summary>
public static class WeightTransports
{
    /// <summary>The trainer's transports, the preferred ones first.</summary>
    /// <exception cref="DllNotFoundException">
    /// NCCL is chosen, or <see cref="TrainerTransportOptions.HasSendGpus"/>, and it is not installed.
    /// </exception>
    public static IReadOnlyList<IWeightTransport> ForTrainer(TrainerTransportOptions options)
    {
        // A worker that maps the trainer's weights has no others, whatever the choice is.
        var inPlace = new CudaIpcTransport();
        return options.Choice switch
        {
            WeightTransportChoice.SharedMemory => [inPlace, new SharedMemoryTransport()],
            WeightTransportChoice.Tcp => [inPlace, Tcp(options)],
            WeightTransportChoice.Nccl => [inPlace, Nccl(options)],
            _ when options.HasSendGpus => [inPlace, Nccl(options), new SharedMemoryTransport(), Tcp(options)],
            // NCCL sends weights that are on a GPU from there, where it is installed.
            _ => [inPlace, new NcclTransport([], options.NcclTimeout), new SharedMemoryTransport(), Tcp(options)],
        };
    }

    /// <summary>All transports that a worker can receive by; each invitation names one of them.</summary>
    public static IReadOnlyList<IWeightTransport> ForWorker(ClusterKey? key) =>
        [new CudaIpcTransport(), new NcclTransport(), new SharedMemoryTransport(), new TcpTransport(key: key)];

    /// <summary>The reason why no transport of the run can bring these weights to a worker, with what to do.</summary>
    /// <param name="addressTaken">
    /// Whether the trainer or another worker already takes part at the worker's address in the group.
    /// </param>
    public static string WhyUnreachable(FlatWeights source, bool addressTaken)
    {
        if (addressTaken)
            return "a group takes each GPU once, and the worker's GPU is also the trainer's or another worker's";
        return source.Device is null
            ? $"allocate them with {nameof(SharedWeightMemory)}.{nameof(SharedWeightMemory.Allocate)}, "
                + "or choose another transport"
            : "they are on a GPU, and the chosen transport sends to other GPUs only; use workers on GPUs, "
                + "or choose the transport auto";
    }

    private static TcpTransport Tcp(TrainerTransportOptions options) =>
        new(new(options.Address, 0), key: options.Key, delta: options.Delta);

    private static NcclTransport Nccl(TrainerTransportOptions options) =>
        NcclSupport.Missing is { } missing
            ? throw new DllNotFoundException(missing)
            : new(options.SendGpus(), options.NcclTimeout);
}
