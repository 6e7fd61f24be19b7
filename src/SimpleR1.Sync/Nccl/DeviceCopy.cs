using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Sync.Nccl;

/// <summary>The trainer's f32 weights in another type on a GPU, to be sent from there; its memory is kept from update to update.</summary>
/// <param name="gpu">With a stream that nothing else uses meanwhile (<see cref="CudaDevice.Beside"/>).</param>
/// <param name="type">bf16, f16 or f32.</param>
public sealed unsafe class DeviceCopy(CudaDevice gpu, ScalarType type) : IDisposable
{
    private readonly TensorThread thread = new("device copy");
    private DeviceUpload? upload;
    private FlatWeights? copy;

    /// <summary>Converts and copies, rounding to nearest. The result belongs to this object and is overwritten by the next call.</summary>
    /// <param name="source">f32, on the CPU, of the same layout in every call; must not change before this ends.</param>
    /// <exception cref="CudaOutOfMemoryException">It does not fit on the GPU.</exception>
    public Task<FlatWeights> OfAsync(FlatWeights source) => thread.RunAsync(() =>
    {
        copy ??= new(source.Layout, type, gpu);
        (upload ??= new(gpu)).Write((byte*)source.Pointer, WeightType.F32, copy.Pointer, NumberConversion.Of(type), source.Layout.Length);
        gpu.Synchronize(); // it is sent by other streams
        return copy;
    });

    public void Dispose()
    {
        thread.Dispose();
        upload?.Dispose();
        copy?.Dispose();
    }
}
