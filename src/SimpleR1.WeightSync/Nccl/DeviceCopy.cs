using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// A copy of the trainer's weights on a GPU in another type, to be sent from there; its memory is kept from update to
/// update.
/// </summary>
/// <param name="gpu">
/// The GPU with a stream that nothing else uses (<see cref="CudaDevice.WithOwnStream"/>); for one thread.
/// </param>
public sealed unsafe class DeviceCopy(CudaDevice gpu) : IDisposable
{
    private DeviceUpload? upload;
    private FlatWeights? copy;

    /// <summary>
    /// Converts and copies, rounding to nearest. The result belongs to this object, is complete when the stream has run
    /// so far, and is overwritten by the next call.
    /// </summary>
    /// <param name="source">
    /// Weights on the CPU, or on this GPU with no pending writes. They must not change before the stream has run so
    /// far.
    /// </param>
    /// <param name="type">bf16, f16 or f32.</param>
    /// <param name="slices">The slices to bring up to date; all of the weights by default.</param>
    /// <exception cref="CudaOutOfMemoryException">The copy does not fit on the GPU.</exception>
    public FlatWeights Of(FlatWeights source, ScalarType type, IEnumerable<PlanSlice>? slices = null)
    {
        if (copy is null || copy.Flat.dtype != type || copy.Layout.Length != source.Layout.Length)
        {
            copy?.Dispose();
            copy = new(source.Layout, type, gpu);
        }

        var from = NumberConversion.Of(source.Flat.dtype);
        var to = NumberConversion.Of(type);
        foreach (var slice in slices ?? [new(0, 0, source.Layout.Length)])
        {
            nint read = source.Pointer + (nint)(slice.First * NumberConversion.Size(from));
            nint write = copy.Pointer + (nint)(slice.First * NumberConversion.Size(to));
            if (source.Device is null)
                (upload ??= new(gpu)).Write((byte*)read, from, write, to, slice.Length);
            else
                NumberConversion.Convert(gpu, read, from, write, to, slice.Length);
        }
        return copy;
    }

    public void Dispose()
    {
        upload?.Dispose();
        copy?.Dispose();
    }
}
