using System.Globalization;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Runs;

/// <summary>A confidence interval around an estimate.</summary>
public readonly record struct Interval(double Estimate, double Low, double High)
{
    /// <summary>As percentages: "71.2% [68.3, 74.0]".</summary>
    public string Percent =>
        string.Create(CultureInfo.InvariantCulture, $"{100 * Estimate:F1}% [{100 * Low:F1}, {100 * High:F1}]");
}

/// <summary>The few statistics that reports need.</summary>
public static class Statistics
{
    /// <summary>Quantile of the normal distribution for a two-sided interval of 95%.</summary>
    private const double Z = 1.959963984540054;

    /// <summary>95% interval of a proportion by Wilson's score method (1927), which also holds near 0 and 1.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There are no trials, or successes are outside 0 .. trials.</exception>
    public static Interval Wilson(int successes, int trials)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(trials, 1);
        if (successes < 0 || successes > trials)
            throw new ArgumentOutOfRangeException(nameof(successes), $"{successes} successes in {trials} trials");
        double p = (double)successes / trials;
        double z2 = Z * Z / trials;
        double centre = (p + z2 / 2) / (1 + z2);
        double half = Z / (1 + z2) * Math.Sqrt(p * (1 - p) / trials + z2 / (4 * trials));
        return new(p, successes == 0 ? 0 : centre - half, successes == trials ? 1 : centre + half);
    }

    /// <summary>
    /// 95% interval of the mean by the percentile bootstrap (Efron 1979); the same seed gives the same interval.
    /// </summary>
    /// <exception cref="ArgumentException">There are no values.</exception>
    public static Interval BootstrapMean(IReadOnlyList<double> values, ulong seed = 1, int resamples = 2000)
    {
        if (values.Count == 0)
            throw new ArgumentException("a mean needs at least one value");
        var random = new SplitMix64(SplitMix64.Mix(seed));
        var means = new double[resamples];
        for (int r = 0; r < resamples; r++)
        {
            double sum = 0;
            for (int i = 0; i < values.Count; i++)
                sum += values[random.Next(values.Count)];
            means[r] = sum / values.Count;
        }
        Array.Sort(means);
        return new(
            values.Average(),
            means[(int)(0.025 * (resamples - 1))],
            means[(int)Math.Ceiling(0.975 * (resamples - 1))]
        );
    }
}
