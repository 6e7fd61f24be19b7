using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using TorchSharp;

namespace SimpleR1.Tensors;

/// <summary>
/// Parallel loops for our CPU kernels on libtorch's own OpenMP threads. A second thread pool would compete with
/// OpenMP's threads, which spin for a while after each matrix product; sharing their pool costs a microsecond a loop
/// instead.
/// </summary>
public static unsafe class CpuParallel
{
    private static readonly delegate* unmanaged<delegate* unmanaged<nint, void>, nint, uint, uint, void> Parallel =
        FindOpenMp();

    /// <summary>Threads that libtorch and these loops use.</summary>
    public static int Threads
    {
        get => torch.get_num_threads();
        set => torch.set_num_threads(value);
    }

    /// <summary>
    /// Runs <paramref name="body"/> for 0 .. <paramref name="items"/> − 1, each item on one thread; items are started
    /// in order.
    /// </summary>
    /// <remarks>
    /// Items should be worth some microseconds. An exception in an item is rethrown here, after all threads have
    /// stopped.
    /// </remarks>
    public static void For(int items, Action<int> body)
    {
        int threads = Math.Min(Threads, items);
        if (threads <= 1 || Parallel == null)
        {
            for (int i = 0; i < items; i++)
                body(i);
            return;
        }
        var loop = new Loop(items, body);
        var handle = GCHandle.Alloc(loop);
        try
        {
            Parallel(&RunShare, GCHandle.ToIntPtr(handle), (uint)threads, 0);
        }
        finally
        {
            handle.Free();
        }
        if (loop.Failure is { } failure)
            ExceptionDispatchInfo.Throw(failure);
    }

    private sealed class Loop(int items, Action<int> body)
    {
        private int next = -1;
        public Exception? Failure;

        public void Run()
        {
            try
            {
                for (
                    int i = Interlocked.Increment(ref next);
                    i < items && Failure is null;
                    i = Interlocked.Increment(ref next)
                )
                    body(i);
            }
            catch (Exception e)
            {
                Failure = e; // an exception must not cross the native frame
            }
        }
    }

    [UnmanagedCallersOnly]
    private static void RunShare(nint handle) => Unsafe.As<Loop>(GCHandle.FromIntPtr(handle).Target!).Run();

    /// <summary>The OpenMP runtime that libtorch has loaded; its file name differs between builds.</summary>
    private static delegate* unmanaged<delegate* unmanaged<nint, void>, nint, uint, uint, void> FindOpenMp()
    {
        _ = torch.get_num_threads(); // loads libtorch
        foreach (string line in File.ReadLines("/proc/self/maps"))
        {
            int slash = line.IndexOf('/');
            if (slash < 0 || !Path.GetFileName(line[slash..]).StartsWith("libgomp", StringComparison.Ordinal))
                continue;
            nint library = NativeLibrary.Load(line[slash..]);
            return (delegate* unmanaged<delegate* unmanaged<nint, void>, nint, uint, uint, void>)
                NativeLibrary.GetExport(library, "GOMP_parallel");
        }
        return null;
    }
}
