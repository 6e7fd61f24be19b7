using SimpleR1.Tensors.Cuda.Ipc;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Wire;

/// <summary>What a trainer shares with the workers on its GPU.</summary>
internal sealed record TrainerMemory(IpcHandle Weights, ScalarType WeightType, IpcHandle Pool);

/// <summary>A worker's answer to a <see cref="TrainerMemory"/>.</summary>
/// <param name="IsOnGpu">Whether the worker computes on the trainer's GPU; where it does not, it maps nothing.</param>
/// <param name="Refused">Why the memory could not be mapped; null when it was, until the process ends.</param>
[GenerateSerializer, Immutable]
internal sealed record MapReply([property: Id(0)] bool IsOnGpu, [property: Id(1)] string? Refused);

/// <summary>The part of the trainer's pool that a worker may use while it holds a lease.</summary>
/// <param name="Offset">In bytes.</param>
/// <param name="Bytes">A multiple of 256.</param>
[GenerateSerializer, Immutable]
internal sealed record MemoryPart([property: Id(0)] long Offset, [property: Id(1)] long Bytes);

/// <summary>Ends the lease that came with the commit of weights.</summary>
[GenerateSerializer, Immutable]
internal sealed record ReclaimMessage
{
    [Id(0)]
    public required string Session { get; init; }

    /// <summary>The lease came with this version or an older one; a later lease stays.</summary>
    [Id(1)]
    public required int Version { get; init; }

    /// <summary>Whether sequences that have started finish first; otherwise they are computed again later.</summary>
    [Id(2)]
    public required bool Drains { get; init; }

    [Id(3)]
    public required double TimeoutSeconds { get; init; }
}
