namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// GPU time by kernel: events around every launch while it is <see cref="CudaDevice.Profile"/>. They keep kernels from overlapping and cannot look into
/// graphs, so a profiled run is slower than a real one, and small kernels seem about a microsecond longer.
/// </summary>
public sealed class KernelProfile(CudaDevice device) : IDisposable
{
    private readonly List<(string Name, CudaEvent Begin, CudaEvent End)> open = [];
    private readonly Stack<CudaEvent> spare = [];
    private readonly Dictionary<string, (long Calls, double Milliseconds)> sums = [];

    /// <summary>Runs a launch between two events.</summary>
    internal void Measure(string name, Action launch)
    {
        var (begin, end) = (Take(), Take());
        begin.Record();
        launch();
        end.Record();
        open.Add((name, begin, end));
        if (open.Count >= 4096) Sum();
    }

    /// <summary>Name, calls, milliseconds in all; the longest first.</summary>
    public IReadOnlyList<(string Name, long Calls, double Milliseconds)> Result()
    {
        Sum();
        return [.. sums.Select(s => (s.Key, s.Value.Calls, s.Value.Milliseconds)).OrderByDescending(s => s.Milliseconds)];
    }

    private CudaEvent Take() => spare.TryPop(out var one) ? one : new(device, timed: true);

    private void Sum()
    {
        device.Synchronize();
        foreach (var (name, begin, end) in open)
        {
            var (calls, milliseconds) = sums.GetValueOrDefault(name);
            sums[name] = (calls + 1, milliseconds + end.MillisecondsSince(begin));
            spare.Push(begin);
            spare.Push(end);
        }
        open.Clear();
    }

    public void Dispose()
    {
        Sum();
        foreach (var one in spare) one.Dispose();
    }
}
