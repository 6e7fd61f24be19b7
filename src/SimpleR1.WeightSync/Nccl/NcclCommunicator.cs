using System.Diagnostics;
using SimpleR1.Tensors.Cuda;
using static SimpleR1.WeightSync.Nccl.NcclLibrary;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// A group of processes, one GPU each, as one of them sees it. Every wait asks for errors of other processes, has a deadline that names what it is for,
/// and ends when cancelled; after any failure the group is of no more use, here and for the others, and is aborted.
/// </summary>
internal sealed unsafe class NcclCommunicator : IDisposable
{
    private static readonly TimeSpan Eager = TimeSpan.FromMilliseconds(50); // polled without pause: transfers within a machine take milliseconds

    private readonly int size;
    private nint handle;

    private NcclCommunicator(nint handle, int size) => (this.handle, this.size) = (handle, size);

    /// <summary>An id for a group to meet by, made by its rank 0: 128 bytes, in which NCCL says where that listens.</summary>
    /// <exception cref="DllNotFoundException">NCCL is not installed; says how to.</exception>
    public static byte[] NewId()
    {
        if (Missing is { } missing)
            throw new DllNotFoundException(missing);
        UniqueId id;
        Check(ncclGetUniqueId(&id));
        return new Span<byte>(&id, IdBytes).ToArray();
    }

    /// <summary>Returns when all have joined.</summary>
    /// <exception cref="TimeoutException">Not all came.</exception>
    /// <exception cref="IOException">NCCL says no, or another process was lost.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static NcclCommunicator Join(
        CudaDevice gpu,
        ReadOnlySpan<byte> id,
        int rank,
        int size,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        if (Missing is { } missing)
            throw new DllNotFoundException(missing);
        if (id.Length != IdBytes)
            throw new ArgumentException($"an NCCL id has {IdBytes} bytes, this one {id.Length}", nameof(id));
        gpu.Use();
        UniqueId bytes;
        id.CopyTo(new(&bytes, IdBytes));
        var config = Config.NonBlocking;
        nint handle;
        Check(ncclCommInitRankConfig(&handle, size, bytes, rank, &config));
        var joined = new NcclCommunicator(handle, size);
        try
        {
            Wait(joined.Ready, $"{size} processes to join an NCCL group, as rank {rank}", timeout, cancellation);
            return joined;
        }
        catch
        {
            joined.Dispose();
            throw;
        }
    }

    /// <summary>Broadcasts as one operation, behind what the stream has to do: each rank's bytes from <c>Root</c>'s memory into the same place of the others'.</summary>
    /// <param name="pieces">The same, in the same order, in every process.</param>
    public void Broadcast(
        CudaDevice gpu,
        IEnumerable<(nint Memory, long Bytes, int Root)> pieces,
        string awaited,
        TimeSpan timeout,
        CancellationToken cancellation
    ) =>
        Run(
            gpu,
            () =>
            {
                foreach (var (memory, bytes, root) in pieces)
                    Check(ncclBroadcast(memory, memory, (nuint)bytes, Bytes, root, handle, gpu.Stream));
            },
            awaited,
            timeout,
            cancellation
        );

    /// <summary>The all-reduce of one number by which vLLM's communicators warm up as soon as they have joined: every member must take part, or all wait for it.</summary>
    public void WarmUp(CudaDevice gpu, TimeSpan timeout, CancellationToken cancellation)
    {
        nint number = gpu.Word.Pointer;
        gpu.Fill(number, 0, sizeof(float));
        try
        {
            Run(
                gpu,
                () => Check(ncclAllReduce(number, number, 1, Float32, Sum, handle, gpu.Stream)),
                $"{size} processes to warm up their NCCL group (an all-reduce of one number, as vLLM's communicators do)",
                timeout,
                cancellation
            );
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Launches one operation behind what the stream has to do, and waits for it.</summary>
    private void Run(CudaDevice gpu, Action launch, string awaited, TimeSpan timeout, CancellationToken cancellation)
    {
        gpu.Use();
        Check(ncclGroupStart());
        launch();
        Check(ncclGroupEnd());
        Wait(Ready, $"NCCL to launch {awaited}", timeout, cancellation);
        using var done = new CudaEvent(gpu);
        done.Record();
        Wait(
            () =>
            {
                _ = Ready(); // an error of another process shows only here: the stream would wait for it forever
                return done.Reached;
            },
            awaited,
            timeout,
            cancellation
        );
    }

    private bool Ready()
    {
        Check(ncclCommGetAsyncError(handle, out int error), "ncclCommGetAsyncError(");
        Check(error, $"a group of {size} processes(");
        return error == Success;
    }

    private static void Wait(Func<bool> reached, string awaited, TimeSpan timeout, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        while (!reached())
        {
            if (cancellation.IsCancellationRequested)
                throw new OperationCanceledException($"Broken off while waiting for {awaited}", cancellation);
            var waited = Stopwatch.GetElapsedTime(start);
            if (waited > timeout)
                throw new TimeoutException($"Waited {timeout.TotalSeconds:0.#} s for {awaited}");
            if (waited > Eager)
                Thread.Sleep(1);
            else
                Thread.Yield();
        }
    }

    /// <summary>Leaves at once, whatever is under way; what other processes of the group have under way fails.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref handle, 0) is var left and not 0)
            _ = ncclCommAbort(left); // nothing could be done about its result
    }
}
