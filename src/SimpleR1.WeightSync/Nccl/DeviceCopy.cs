using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>The trainer's weights in another type on a GPU, to be sent from there; its memory is kept from update to update.</summary>
/// <param name="gpu">With a stream that nothing else uses meanwhile (<see cref="CudaDevice.Beside"/>); one thread's.</param>
public sealed unsafe class DeviceCopy(CudaDevice gpu) : IDisposable
{
    private DeviceUpload? upload;
    private FlatWeights? copy;

    /// <summary>Converts and copies, rounding to nearest. The result belongs to this object, is there when the stream has come so far, and is overwritten by the next call.</summary>
    /// <param name="source">On the CPU, or on this GPU with nothing under way that writes to them. Must not change before the stream has come so far.</param>
    /// <param name="type">bf16, f16 or f32.</param>
    /// <param name="slices">What is brought up to date; all of it by default.</param>
    /// <exception cref="CudaOutOfMemoryException">It does not fit on the GPU.</exception>
    public FlatWeights Of(FlatWeights source, ScalarType type, IEnumerable<PlanSlice>? slices = null)
    {
        if (copy is null || copy.Flat.dtype != type || copy.Layout.Length != source.Layout.Length)
        {
            copy?.Dispose();
            copy = new(source.Layout, type, gpu);
        }
        var (from, to) = (NumberConversion.Of(source.Flat.dtype), NumberConversion.Of(type));
        foreach (var slice in slices ?? [new(0, 0, source.Layout.Length)])
        {
            nint at = source.Pointer + (nint)(slice.First * NumberConversion.Size(from)),
                into = copy.Pointer + (nint)(slice.First * NumberConversion.Size(to));
            if (source.Device is null)
                (upload ??= new(gpu)).Write((byte*)at, from, into, to, slice.Length);
            else
                NumberConversion.Convert(gpu, at, from, into, to, slice.Length);
        }
        return copy;
    }

    public void Dispose()
    {
        upload?.Dispose();
        copy?.Dispose();
    }
}
