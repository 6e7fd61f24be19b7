using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.WeightSync;

/// <summary>
/// A copy of a GPU's weights in shared memory, in their own type, from which the transports send that can't read a GPU's
/// memory. Its memory is kept from update to update.
/// </summary>
public sealed class HostCopy : IDisposable
{
    private readonly Lock gate = new();
    private CudaDevice? reading; // with a stream of its own
    private FlatWeights? copy;

    /// <summary>Copies the weights. The result belongs to this object, and is overwritten by the next call.</summary>
    /// <param name="source">On a GPU, with no pending writes.</param>
    public FlatWeights Of(FlatWeights source)
    {
        if (source.Device is not { } gpu)
            throw new ArgumentException("these weights are in the CPU's memory; they need no copy there");
        lock (gate)
        {
            if (reading?.Index != gpu.Index)
                reading = gpu.WithOwnStream();
            if (copy is null || copy.Flat.dtype != source.Flat.dtype || copy.Layout.Length != source.Layout.Length)
            {
                copy?.Dispose();
                copy = SharedWeightMemory.Allocate(source.Layout, source.Flat.dtype);
            }
            reading.Download(source.Pointer, copy.Pointer, source.ByteLength);
            reading.Synchronize();
            return copy;
        }
    }

    public void Dispose() => copy?.Dispose();
}
