using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>Whether NCCL can be used here, and how its groups tell GPUs apart.</summary>
public static class NcclSupport
{
    /// <summary>Why NCCL cannot be used here; null when it can.</summary>
    public static string? Missing => NcclLibrary.Missing;

    /// <summary>
    /// The identity of a GPU among a group's members: NCCL takes each GPU once. As for NCCL itself, NCCL_HOSTID makes a
    /// process count as another machine's.
    /// </summary>
    public static string Identify(CudaDevice gpu) => $"{Environment.GetEnvironmentVariable("NCCL_HOSTID")}/{gpu.Uuid}";
}
