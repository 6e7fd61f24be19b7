using static SimpleR1.Tensors.Cuda.Libraries.CudaDriver;

namespace SimpleR1.Tensors.Cuda;

/// <summary>A point in the stream that can be waited for.</summary>
public sealed class CudaEvent : IDisposable
{
    private readonly CudaDevice device;
    private nint handle;

    /// <param name="timed">Whether <see cref="MillisecondsSince"/> will be called.</param>
    public CudaEvent(CudaDevice device, bool timed = false)
    {
        this.device = device;
        device.Use();
        Check(cuEventCreate(out handle, timed ? 0u : 2u));
    }

    /// <summary>Marks what has been launched so far.</summary>
    public void Record()
    {
        device.Use();
        Check(cuEventRecord(handle, device.Stream));
    }

    public void Wait()
    {
        device.Use();
        Check(cuEventSynchronize(handle));
    }

    /// <summary>Whether the GPU has done all that was launched before.</summary>
    public bool Reached
    {
        get
        {
            device.Use();
            int result = cuEventQuery(handle);
            if (result != NotReady)
                Check(result, "cuEventQuery(");
            return result == 0;
        }
    }

    /// <summary>GPU time between two recorded events that have been reached.</summary>
    public double MillisecondsSince(CudaEvent earlier)
    {
        Check(cuEventElapsedTime(out float milliseconds, earlier.handle, handle));
        return milliseconds;
    }

    public void Dispose()
    {
        device.Use();
        nint freed = Interlocked.Exchange(ref handle, 0);
        if (freed != 0)
            Check(cuEventDestroy_v2(freed));
    }
}
