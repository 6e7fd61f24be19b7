using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Bench;

/// <summary>Times calls on a GPU by events.</summary>
internal static class GpuTimer
{
    private const int Rounds = 12;
    private const int WarmUpRounds = 2;

    /// <summary>Seconds of one call: the median of several rounds over all items.</summary>
    public static double TimeEach(CudaDevice gpu, int items, Action<int> call)
    {
        using CudaEvent begin = new(gpu, timed: true);
        using CudaEvent end = new(gpu, timed: true);
        var times = new List<double>();
        for (int round = 0; round < Rounds; round++)
        {
            // A delay on the GPU lets the host launch everything before the first call runs.
            gpu.Kernels.Get("Delay", "delay", "ELEMENT=float").Launch((1, 1), 32, 0, 1_000_000);
            begin.Record();
            for (int i = 0; i < items; i++)
                call(i);
            end.Record();
            end.Wait();
            if (round >= WarmUpRounds)
                times.Add(end.MillisecondsSince(begin) / 1000 / items);
        }

        times.Sort();
        return times[times.Count / 2];
    }
}
