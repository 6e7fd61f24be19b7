using static SimpleR1.Tensors.Cuda.CudaDriver;

namespace SimpleR1.Tensors.Cuda;

/// <summary>A sequence of launches that is recorded once and launched as one.</summary>
public sealed class CudaGraph : IDisposable
{
    private readonly CudaDevice device;
    private nint executable;

    private CudaGraph(CudaDevice device, nint executable) => (this.device, this.executable) = (device, executable);

    /// <summary>Records what <paramref name="work"/> launches; nothing of it runs. It must not allocate, copy from pageable memory, or wait.</summary>
    public static CudaGraph Capture(CudaDevice device, Action work)
    {
        device.Use();
        Check(cuStreamBeginCapture_v2(device.Stream, 2)); // relaxed: what else this process does with CUDA does not disturb it
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
        if (Interlocked.Exchange(ref executable, 0) is var freed and not 0)
            Check(cuGraphExecDestroy(freed));
    }
}
