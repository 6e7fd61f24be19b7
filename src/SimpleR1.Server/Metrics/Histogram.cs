namespace SimpleR1.Server.Metrics;

/// <summary>Counts how many values were at most each of some bounds.</summary>
internal sealed class Histogram
{
    /// <summary>Seconds.</summary>
    public static readonly double[] Bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

    private readonly long[] counts = new long[Bounds.Length + 1];
    private double sum;

    public void Observe(double value)
    {
        int bucket = Array.FindIndex(Bounds, bound => value <= bound);
        lock (counts)
        {
            counts[bucket < 0 ? Bounds.Length : bucket]++;
            sum += value;
        }
    }

    /// <summary>Counts by bucket, the last one for values above all bounds, and the sum of all values.</summary>
    public (long[] Counts, double Sum) Read()
    {
        lock (counts)
            return ([.. counts], sum);
    }
}
