using System.Diagnostics;
using SimpleR1.Tensors.Cuda;
using static SimpleR1.WeightSync.Nccl.NcclLibrary;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// A group of processes with one GPU each, as one of them sees it. Every wait polls for errors of other processes, has
/// a deadline whose message names what was awaited, and ends when cancelled. After any failure the group is of no more
/// use, here and for the others, and is aborted.
/// </summary>
internal sealed unsafe class NcclCommunicator : IDisposable
{
    // Waits poll without a pause for so long: transfers within a machine take milliseconds.
    private static readonly TimeSpan Eager = TimeSpan.FromMilliseconds(50);

    private readonly int size;
    private nint handle;

    private NcclCommunicator(nint handle, int size)
    {
        this.handle = handle;
        this.size = size;
    }

    /// <summary>
    /// An id for a group to meet by, made by its rank 0: 128 bytes, in which NCCL encodes where that rank listens.
    /// </summary>
    /// <exception cref="DllNotFoundException">
    /// NCCL is not installed; the message explains how to install it.
    /// </exception>
    public static byte[] NewId()
    {
        if (Missing is { } missing)
            throw new DllNotFoundException(missing);
        UniqueId id;
        Check(ncclGetUniqueId(&id));
        return new Span<byte>(&id, IdBytes).ToArray();
    }

    /// <summary>Joins a group; returns when all have joined.</summary>
    /// <exception cref="TimeoutException">Not all joined in time.</exception>
    /// <exception cref="IOException">NCCL reports an error, or another process was lost.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellation"/> was requested.</exception>
    /// <exception cref="DllNotFoundException">NCCL is not installed.</exception>
    public static NcclCommunicator Join(
        CudaDevice gpu,
        NcclPlace place,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        if (Missing is { } missing)
            throw new DllNotFoundException(missing);
        if (place.Id.Length != IdBytes)
            throw new ArgumentException($"an NCCL id has {IdBytes} bytes, this one {place.Id.Length}", nameof(place));

        // Begin to join: the call does not wait.
        gpu.Use();
        UniqueId id;
        place.Id.CopyTo(new Span<byte>(&id, IdBytes));
        var config = Config.NonBlocking;
        nint handle;
        Check(ncclCommInitRankConfig(&handle, place.Size, id, place.Rank, &config));

        // Wait for the others.
        var joined = new NcclCommunicator(handle, place.Size);
        string awaited = $"{place.Size} processes to join an NCCL group, as rank {place.Rank}";
        try
        {
            Wait(joined.Ready, awaited, timeout, cancellation);
            return joined;
        }
        catch
        {
            joined.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Broadcasts as one operation, after the stream's earlier work: each piece from <c>Root</c>'s memory into the same
    /// place of the others' memory.
    /// </summary>
    /// <param name="pieces">The same pieces, in the same order, in every process.</param>
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

    /// <summary>
    /// The all-reduce of one number by which vLLM's communicators warm up as soon as they have joined. Every member
    /// must take part, or all wait for it.
    /// </summary>
    public void WarmUp(CudaDevice gpu, TimeSpan timeout, CancellationToken cancellation)
    {
        nint number = gpu.Word.Pointer;
        gpu.Fill(number, 0, sizeof(float));
        try
        {
            Run(
                gpu,
                () => Check(ncclAllReduce(number, number, 1, Float32, Sum, handle, gpu.Stream)),
                $"{size} processes to warm up their NCCL group "
                    + "(an all-reduce of one number, as vLLM's communicators do)",
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

    /// <summary>Launches one operation after the stream's earlier work, and waits for it.</summary>
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
                throw new OperationCanceledException($"Cancelled while waiting for {awaited}", cancellation);
            var waited = Stopwatch.GetElapsedTime(start);
            if (waited > timeout)
                throw new TimeoutException($"Waited {timeout.TotalSeconds:0.#} s for {awaited}");
            if (waited > Eager)
                Thread.Sleep(1);
            else
                Thread.Yield();
        }
    }

    /// <summary>
    /// Leaves at once, even during an operation; operations that other processes of the group have under way fail.
    /// </summary>
    public void Dispose()
    {
        nint left = Interlocked.Exchange(ref handle, 0);
        if (left != 0)
            _ = ncclCommAbort(left); // its result leaves nothing to do
    }
}
