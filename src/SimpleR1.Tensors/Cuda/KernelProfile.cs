namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// GPU time by kernel, from events around every launch while this is <see cref="CudaDevice.Profile"/>. Events cannot
/// look into graphs. They keep kernels from overlapping, so that small kernels seem some microseconds longer: the
/// time between two events with nothing between them is subtracted.
/// </summary>
public sealed class KernelProfile(CudaDevice device) : IDisposable
{
    private readonly List<(string Name, CudaEvent Begin, CudaEvent End)> open = [];
    private readonly Stack<CudaEvent> spare = [];
    private readonly Dictionary<string, (long Calls, double Milliseconds)> sums = [];
    private double emptyMilliseconds = double.MaxValue;

    /// <summary>
    /// Keeps the GPU busy for 20 ms, so that the host gets ahead: a GPU that waits for launches would add their time
    /// to what is measured.
    /// </summary>
    public void HoldBack() => device.Kernels.Get("Delay", "delay", "ELEMENT=float").Launch((1, 1), 32, 0, 20_000_000);

    /// <summary>Runs a launch between two events.</summary>
    internal void Measure(string name, Action launch)
    {
        if (open.Count >= 4096)
            Sum();
        CudaEvent begin = Take(),
            end = Take();
        begin.Record();
        launch();
        end.Record();
        open.Add((name, begin, end));
        if (open.Count % 64 > 0)
            return;

        // Now and then two events with nothing between them.
        CudaEvent first = Take(),
            second = Take();
        first.Record();
        second.Record();
        open.Add(("", first, second));
    }

    /// <summary>Name, calls, milliseconds in all; the longest first.</summary>
    public IReadOnlyList<(string Name, long Calls, double Milliseconds)> Result()
    {
        Sum();
        double empty = emptyMilliseconds == double.MaxValue ? 0 : emptyMilliseconds;
        return
        [
            .. sums.Where(s => s.Key != "delay")
                .Select(s => (s.Key, s.Value.Calls, s.Value.Milliseconds - empty * s.Value.Calls))
                .OrderByDescending(s => s.Item3),
        ];
    }

    private CudaEvent Take() => spare.TryPop(out var unused) ? unused : new(device, timed: true);

    private void Sum()
    {
        device.Synchronize();
        foreach (var (name, begin, end) in open)
        {
            double time = end.MillisecondsSince(begin);
            if (name.Length == 0)
                emptyMilliseconds = Math.Min(emptyMilliseconds, time);
            else
            {
                var (calls, milliseconds) = sums.GetValueOrDefault(name);
                sums[name] = (calls + 1, milliseconds + time);
            }
            spare.Push(begin);
            spare.Push(end);
        }
        open.Clear();
    }

    public void Dispose()
    {
        Sum();
        foreach (var unused in spare)
            unused.Dispose();
    }
}
