using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm.Collectives;

namespace SimpleR1.Vllm.Serving;

/// <summary>
/// Puts tensors that a group receives into weights, on the CPU or on a GPU, whatever their types. A tensor that comes
/// alone, in the weights' type and into the memory that holds them, goes straight to its place. All others come into
/// staging memory, which is kept from update to update, and are converted from there; the GPU converts those that come
/// into its memory. For one thread at a time, and while nothing computes with the weights.
/// </summary>
public sealed unsafe class TensorReceiver(FlatWeights weights) : IDisposable
{
    private readonly WeightType live = NumberConversion.Of(weights.Flat.dtype);
    private DeviceMemory? deviceStaging;
    private DeviceUpload? upload; // for tensors that came into the host's memory
    private (nint Pointer, long Bytes) hostStaging;

    /// <summary>
    /// Allocates staging memory for all pieces before the first byte, so that a failure changes no weights.
    /// </summary>
    /// <param name="pieces">The same as for <see cref="Receive"/>.</param>
    /// <exception cref="CudaOutOfMemoryException">
    /// The staging memory does not fit; the message says what to change.
    /// </exception>
    public void Reserve(IWeightGroup group, IReadOnlyList<WireTensor[]> pieces)
    {
        long bytes = pieces
            .Where(piece => !GoesStraight(group, piece))
            .Select(piece => piece.Sum(t => t.Bytes))
            .DefaultIfEmpty(0)
            .Max();
        if (group.Device is { } gpu)
        {
            ReserveOnDevice(gpu, bytes);
            return;
        }
        if (hostStaging.Bytes < bytes)
        {
            NativeMemory.Free((void*)hostStaging.Pointer);
            hostStaging = default;
            hostStaging = ((nint)NativeMemory.Alloc((nuint)bytes), bytes);
        }
        if (weights.Device is { } target)
            upload ??= new(target);
    }

    private void ReserveOnDevice(CudaDevice gpu, long bytes)
    {
        if (deviceStaging?.Device == gpu && deviceStaging.Bytes >= bytes)
            return;
        deviceStaging?.Dispose();
        deviceStaging = null;
        if (bytes > 0)
            deviceStaging = gpu.Allocate(
                bytes,
                "received tensors that are packed or of another type than the weights'",
                "serve with a lower --gpu-memory-utilization, or send them in the weights' type "
                    + "and with a smaller packed_buffer_size_bytes"
            );
    }

    /// <summary>Receives the pieces; when this returns, all tensors are in place.</summary>
    /// <param name="pieces">
    /// In the order in which rank 0 sends them, the tensors of each packed one after the other.
    /// </param>
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

            // Receive into staging memory, and convert each tensor to its place.
            nint staged = group.Device is null ? hostStaging.Pointer : deviceStaging!.Pointer;
            group.Broadcast(staged, piece.Sum(t => t.Bytes));
            foreach (var part in piece)
            {
                if (part.Tensor is { } tensor)
                    Convert(group.Device, staged, NumberConversion.Of(part.Type), Place(tensor), tensor.Length);
                staged += (nint)part.Bytes;
            }
        }
        group.Device?.Synchronize(); // the weights' own stream does not wait for the group's
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
