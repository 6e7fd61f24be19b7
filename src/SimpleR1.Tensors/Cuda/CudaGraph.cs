using static SimpleR1.Tensors.Cuda.Libraries.CudaDriver;

namespace SimpleR1.Tensors.Cuda;

/// <summary>A sequence of launches that is recorded once and launched as one.</summary>
public sealed class CudaGraph : IDisposable
{
    private readonly CudaDevice device;
    private nint executable;

    private CudaGraph(CudaDevice device, nint executable)
    {
        this.device = device;
        this.executable = executable;
    }

    /// <summary>
    /// Records what <paramref name="work"/> launches, without running it. The work must not allocate, copy from
    /// pageable memory, or wait.
    /// </summary>
    public static CudaGraph Capture(CudaDevice device, Action work)
    {
        device.Use();
        Check(cuStreamBeginCapture_v2(device.Stream, 2)); // relaxed: other CUDA calls of this process do not disturb it
        nint graph;
        device.Capturing = true;
        try
        {
            work();
        }
        catch
        {
            if (cuStreamEndCapture(device.Stream, out graph) == 0 && graph != 0)
                _ = cuGraphDestroy(graph); // the stream must not stay in capture
            throw;
        }
        finally
        {
            device.Capturing = false;
        }
        Check(cuStreamEndCapture(device.Stream, out graph));
        try
        {
            Check(cuGraphInstantiateWithFlags(out nint executable, graph, 0));
            return new(device, executable);
        }
        finally
        {
            Check(cuGraphDestroy(graph));
        }
    }

    public void Launch()
    {
        device.Use();
        Check(cuGraphLaunch(executable, device.Stream));
    }

    public void Dispose()
    {
        device.Use();
        nint freed = Interlocked.Exchange(ref executable, 0);
        if (freed != 0)
            Check(cuGraphExecDestroy(freed));
    }
}
