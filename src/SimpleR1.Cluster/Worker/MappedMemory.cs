using SimpleR1.Cluster.Wire;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Worker;

/// <summary>
/// The trainer's weights and its pool, mapped into this process until it ends, at the same addresses: CUDA graphs hold
/// them. Mapping gives no right to the bytes; a lease does, and it comes with each commit of weights.
/// </summary>
internal sealed class MappedMemory(DeviceMemory weights, ScalarType type, DeviceMemory pool) : IDisposable
{
    /// <exception cref="CudaException">The driver refuses.</exception>
    public static MappedMemory Open(TrainerMemory memory, CudaDevice gpu)
    {
        var weights = memory.Weights.Open(gpu);
        try
        {
            return new(weights, memory.WeightType, memory.Pool.Open(gpu));
        }
        catch
        {
            weights.Dispose();
            throw;
        }
    }

    public ScalarType WeightType => type;

    /// <summary>The trainer's live weights.</summary>
    public FlatWeights Weights(WeightLayout layout) => new(layout, type, weights.Part(0, weights.Bytes));

    public DeviceMemory Part(MemoryPart part) => pool.Part(part.Offset, part.Bytes);

    public void Dispose()
    {
        weights.Dispose();
        pool.Dispose();
    }
}
