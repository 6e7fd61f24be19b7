using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>A tensor that a trainer sends.</summary>
/// <param name="Tensor">Which of the model's it is; null for one that has no place of its own there (a tied output matrix).</param>
/// <param name="Type">Of its elements as they travel: f32, bf16 or f16.</param>
/// <param name="Length">Elements.</param>
public sealed record WireTensor(CheckpointTensor? Tensor, ScalarType Type, long Length)
{
    public long Bytes => Length * Type.ElementSize();
}

/// <summary>
/// Puts tensors that a group receives into weights, on the CPU or on a GPU, whatever their types. One that comes alone, in the weights' type and into the memory that holds
/// them, goes straight to its place. All others come into staging memory, which is kept from update to update, and are converted from there: by the GPU where they come
/// into its memory. For one thread at a time, and while nothing computes with the weights.
/// </summary>
public sealed unsafe class TensorReceiver(FlatWeights weights) : IDisposable
{
    private readonly WeightType live = NumberConversion.Of(weights.Flat.dtype);
    private DeviceMemory? deviceStaging;
    private DeviceUpload? upload; // of what came into the host's memory
    private (nint Pointer, long Bytes) hostStaging;

    /// <summary>Makes room for all that is to come, before the first byte: what does not fit then has changed nothing.</summary>
    /// <param name="pieces">As in <see cref="Receive"/>.</param>
    /// <exception cref="CudaOutOfMemoryException">It does not fit; says what to change.</exception>
    public void Reserve(IWeightGroup group, IReadOnlyList<WireTensor[]> pieces)
    {
        long bytes = pieces
            .Where(piece => !GoesStraight(group, piece))
            .Select(piece => piece.Sum(t => t.Bytes))
            .DefaultIfEmpty(0)
            .Max();
        if (group.Device is { } gpu && (deviceStaging?.Device != gpu || deviceStaging.Bytes < bytes))
        {
            deviceStaging?.Dispose();
            deviceStaging = null;
            if (bytes > 0)
                deviceStaging = gpu.Allocate(
                    bytes,
                    "received tensors that are packed or of another type than the weights'",
                    "serve with a lower --gpu-memory-utilization, or send them in the weights' type and with a smaller packed_buffer_size_bytes"
                );
        }
        if (group.Device is null && hostStaging.Bytes < bytes)
        {
            NativeMemory.Free((void*)hostStaging.Pointer);
            hostStaging = default;
            hostStaging = ((nint)NativeMemory.Alloc((nuint)bytes), bytes);
        }
        if (group.Device is null && weights.Device is { } target)
            upload ??= new(target);
    }

    /// <summary>Receives; when this returns, all is in place.</summary>
    /// <param name="pieces">In the order in which rank 0 sends them, the tensors of each packed one behind the other.</param>
    /// <inheritdoc cref="IWeightGroup.Broadcast" path="/exception"/>
    public void Receive(IWeightGroup group, IReadOnlyList<WireTensor[]> pieces)
    {
        weights.ProvenHash = 0;
        foreach (var piece in pieces)
        {
            if (GoesStraight(group, piece))
            {
                group.Broadcast(Place(piece[0].Tensor!), piece[0].Bytes);
                continue;
            }
            nint at = group.Device is null ? hostStaging.Pointer : deviceStaging!.Pointer;
            group.Broadcast(at, piece.Sum(t => t.Bytes));
            foreach (var part in piece)
            {
                if (part.Tensor is { } tensor)
                    Convert(group.Device, at, NumberConversion.Of(part.Type), Place(tensor), tensor.Length);
                at += (nint)part.Bytes;
            }
        }
        group.Device?.Synchronize(); // the weights' own stream does not wait for its
        weights.Device?.Synchronize();
    }

    private bool GoesStraight(IWeightGroup group, WireTensor[] piece) =>
        piece is [{ Tensor: not null, Type: var type }]
        && type == weights.Flat.dtype
        && (group.Device is null) == (weights.Device is null);

    private nint Place(CheckpointTensor tensor) =>
        weights.Pointer + (nint)(tensor.Offset * NumberConversion.Size(live));

    private void Convert(CudaDevice? gpu, nint from, WeightType type, nint to, long count)
    {
        if (gpu is not null)
            NumberConversion.Convert(gpu, from, type, to, live, count);
        else if (upload is not null)
            upload.Write((byte*)from, type, to, live, count);
        else
            NumberConversion.ConvertAll((byte*)from, type, (byte*)to, live, count);
    }

    public void Dispose()
    {
        deviceStaging?.Dispose();
        upload?.Dispose();
        NativeMemory.Free((void*)hostStaging.Pointer);
        hostStaging = default;
    }
}
