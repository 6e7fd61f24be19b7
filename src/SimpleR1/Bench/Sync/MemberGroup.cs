using System.Runtime.InteropServices;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Worker;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm.Collectives;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Bench.Sync;

/// <summary>
/// A trainer (rank 0) and its workers as threads of this process, for what needs no worker processes.
/// </summary>
internal sealed unsafe class MemberGroup : IDisposable
{
    private static readonly TimeSpan JoinTimeout = TimeSpan.FromMinutes(2);

    private readonly List<GroupMember> members = [];
    private readonly List<IDisposable> gpuMemory = [];
    private readonly List<nint> hostMemory = [];

    private MemberGroup(string name) => Name = name;

    /// <summary>The transport's name.</summary>
    public string Name { get; }
    public int Count => members.Count;

    /// <summary>Forms a group by NCCL if both ends have GPUs, otherwise by TCP.</summary>
    /// <param name="bytes">Bytes of each member's buffer.</param>
    /// <param name="staging">Bytes to which a worker copies received tensors; 0 for none.</param>
    /// <exception cref="ArgumentException">NCCL would need a GPU twice.</exception>
    public static MemberGroup Form(ClusterOptions cluster, long bytes, long staging)
    {
        int size = cluster.Workers + 1;
        bool nccl = cluster.Worker.Device != "cpu" && cluster.SendDevice is not null && NcclSupport.Missing is null;
        CudaDevice?[] gpus = nccl ? Gpus(cluster, size) : new CudaDevice?[size];

        // All members join at the same time.
        using var tcp = new TcpCollectives();
        ICollectives Collectives(int rank) => gpus[rank] is { } gpu ? new NcclCollectives(gpu) : tcp;
        byte[] id = Collectives(0).NewId();
        var joined = new IWeightGroup[size];
        OnThreads(size, rank => joined[rank] = Collectives(rank).Join(id, rank, size, JoinTimeout));

        var group = new MemberGroup(nccl ? "nccl" : "tcp");
        for (int rank = 0; rank < size; rank++)
        {
            var gpu = gpus[rank];
            nint memory = group.Allocate(gpu, bytes);
            nint itsStaging = rank > 0 && staging > 0 ? group.Allocate(gpu, staging) : 0;
            group.members.Add(new(joined[rank], memory, itsStaging, gpu));
        }
        return group;
    }

    /// <summary>Runs an action for every member at the same time, with its rank.</summary>
    public void Each(Action<GroupMember, int> action) => OnThreads(members.Count, rank => action(members[rank], rank));

    private static CudaDevice[] Gpus(ClusterOptions cluster, int size)
    {
        var devices = WorkerDevices.Expand(cluster.Worker.Device);
        CudaDevice Gpu(int rank)
        {
            string name =
                rank == 0 ? WorkerDevices.ExpandGpus(cluster.SendDevice!)[0] : devices[(rank - 1) % devices.Count];
            return CudaDevice.Parse(name)!.WithOwnStream();
        }
        CudaDevice[] gpus = [.. Enumerable.Range(0, size).Select(Gpu)];
        if (gpus.DistinctBy(NcclSupport.Identify).Count() < size)
            throw new ArgumentException(
                $"NCCL takes each GPU once: give {size} different ones, "
                    + $"the trainer's (--send-device {cluster.SendDevice}) and "
                    + $"{cluster.Workers} for the workers (--device {cluster.Worker.Device})"
            );
        return gpus;
    }

    private nint Allocate(CudaDevice? gpu, long bytes)
    {
        if (gpu is not null)
        {
            var memory = gpu.AllocateZeros(bytes, "a benchmark's buffer");
            gpuMemory.Add(memory);
            return memory.Pointer;
        }
        nint buffer = (nint)NativeMemory.AllocZeroed((nuint)bytes);
        hostMemory.Add(buffer);
        return buffer;
    }

    private static void OnThreads(int count, Action<int> action)
    {
        Exception? failure = null;
        void Run(int rank)
        {
            try
            {
                action(rank);
            }
            catch (Exception e)
            {
                failure = e;
            }
        }
        Thread[] threads = [.. Enumerable.Range(0, count).Select(rank => new Thread(() => Run(rank)))];
        foreach (var thread in threads)
            thread.Start();
        foreach (var thread in threads)
            thread.Join();
        if (failure is not null)
            throw new IOException("a comparison failed: " + failure.Message, failure);
    }

    public void Dispose()
    {
        foreach (var member in members)
            member.Group.Dispose();
        foreach (var memory in gpuMemory)
            memory.Dispose();
        foreach (nint buffer in hostMemory)
            NativeMemory.Free((void*)buffer);
    }
}
