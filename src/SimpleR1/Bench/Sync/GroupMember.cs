using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm.Collectives;

namespace SimpleR1.Bench.Sync;

/// <summary>A member of a group on a thread of this process, with its own buffer.</summary>
/// <param name="memory">The buffer that is sent, or received into.</param>
/// <param name="staging">Where a worker copies received tensors to.</param>
internal sealed unsafe class GroupMember(IWeightGroup group, nint memory, nint staging, CudaDevice? gpu)
{
    public IWeightGroup Group => group;

    public void Broadcast(long offset, long bytes) => group.Broadcast(memory + (nint)offset, bytes);

    /// <summary>Copies a received tensor out of the buffer.</summary>
    public void CopyOut(long offset, long bytes)
    {
        nint source = memory + (nint)offset;
        if (gpu is null)
            Buffer.MemoryCopy((void*)source, (void*)staging, bytes, bytes);
        else
            gpu.CopyWithin(source, staging, bytes);
    }
}
