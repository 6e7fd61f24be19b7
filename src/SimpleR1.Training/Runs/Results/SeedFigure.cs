namespace SimpleR1.Training.Runs.Results;

/// <summary>A figure of runs that differ in their seeds: its mean.</summary>
/// <param name="Interval">
/// 95% interval: of the mean over several seeds by Student's t; of a single run over its problems. Null where a single
/// run has none.
/// </param>
/// <param name="Seeds">Runs that have the figure.</param>
public sealed record SeedFigure(double Mean, (double Low, double High)? Interval, int Seeds)
{
    /// <summary>Quantiles of Student's t for two-sided intervals of 95%, by degrees of freedom from 1.</summary>
    private static readonly double[] Quantiles =
    [
        .. new[] { 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228 },
        .. new[] { 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086 },
        .. new[] { 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042 },
    ];

    /// <summary>Of one point of each run; null where no run has one.</summary>
    public static SeedFigure? Of(IReadOnlyList<MetricPoint> points)
    {
        if (points.Count == 0)
            return null;
        double mean = points.Average(p => p.Value);
        if (points.Count == 1)
            return new(mean, points[0].Interval, 1);
        double variance = points.Sum(p => (p.Value - mean) * (p.Value - mean)) / (points.Count - 1);
        double half = Quantile(points.Count - 1) * Math.Sqrt(variance / points.Count);
        return new(mean, (mean - half, mean + half), points.Count);
    }

    /// <summary>
    /// Quantile of Student's t for a two-sided interval of 95%; beyond the table, the first terms of its expansion around
    /// the normal distribution's (Abramowitz and Stegun 1964, 26.7.5), which are exact to 1e-4 there.
    /// </summary>
    internal static double Quantile(int degreesOfFreedom)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(degreesOfFreedom, 1);
        if (degreesOfFreedom <= Quantiles.Length)
            return Quantiles[degreesOfFreedom - 1];
        const double z = 1.959963984540054;
        double n = degreesOfFreedom;
        return z + (Math.Pow(z, 3) + z) / (4 * n) + (5 * Math.Pow(z, 5) + 16 * Math.Pow(z, 3) + 3 * z) / (96 * n * n);
    }
}
