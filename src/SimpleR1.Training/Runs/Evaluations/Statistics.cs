using System.Globalization;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>A confidence interval around an estimate.</summary>
public readonly record struct Interval(double Estimate, double Low, double High)
{
    /// <summary>As percentages: "71.2% [68.3, 74.0]".</summary>
    public string Percent =>
        string.Create(CultureInfo.InvariantCulture, $"{100 * Estimate:F1}% [{100 * Low:F1}, {100 * High:F1}]");

    /// <summary>As percentage points with a sign: "+3.1 points [-0.4, +6.6]".</summary>
    public string Points =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{100 * Estimate:+0.0;-0.0;0.0} points [{100 * Low:+0.0;-0.0;0.0}, {100 * High:+0.0;-0.0;0.0}]"
        );
}

/// <summary>Of each problem, the share of its answers that succeed.</summary>
/// <param name="Answers">Answers to each problem.</param>
public sealed record ProblemShares(IReadOnlyList<double> Shares, int Answers);

/// <summary>How many answers to a problem count, and how many of them succeed.</summary>
public readonly record struct AnswerCount(int Successes, int Answers);

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
        return Wilson((double)successes / trials, trials);
    }

    private static Interval Wilson(double p, double trials)
    {
        double z2 = Z * Z / trials;
        double centre = (p + z2 / 2) / (1 + z2);
        double half = Z / (1 + z2) * Math.Sqrt(p * (1 - p) / trials + z2 / (4 * trials));
        return new(p, p == 0 ? 0 : centre - half, p == 1 ? 1 : centre + half);
    }

    /// <summary>
    /// 95% interval of a share over problems, each answered several times. Answers to one problem are alike, so problems
    /// are the trials: Wilson's method with the number of independent trials that would scatter as the problems' own
    /// shares do (Kish 1965; Korn and Graubard 1998). It is between the number of problems and that of answers. With one
    /// answer to a problem this is <see cref="Wilson(int, int)"/>.
    /// </summary>
    /// <param name="shares">Of each problem, the share of answers that succeed: 0 to 1.</param>
    /// <param name="answers">Answers to each problem.</param>
    /// <exception cref="ArgumentException">There are no problems.</exception>
    public static Interval OverProblems(IReadOnlyList<double> shares, int answers)
    {
        if (shares.Count == 0)
            throw new ArgumentException("a share needs at least one problem");
        double p = shares.All(s => s == shares[0]) ? shares[0] : shares.Average();
        if (p is 0 or 1)
            return Wilson(p, shares.Count);
        double scatter = shares.Average(s => (s - p) * (s - p)); // p (1 − p) where each share is 0 or 1
        double trials = p * (1 - p) / scatter * shares.Count;
        return Wilson(p, Math.Clamp(trials, shares.Count, (double)shares.Count * answers));
    }

    /// <summary>
    /// 95% interval of the share of answers that succeed, where problems have different numbers of answers: as
    /// <see cref="OverProblems"/>, with the variance of a ratio of sums over problems (Cochran 1977, "Sampling Techniques",
    /// chapter 6). With as many answers to each problem it is that one.
    /// </summary>
    /// <exception cref="ArgumentException">There are no answers.</exception>
    public static Interval OverAnswers(IReadOnlyList<AnswerCount> problems)
    {
        var counted = problems.Where(c => c.Answers > 0).ToList();
        if (counted.Count == 0)
            throw new ArgumentException("a share needs at least one answer");
        double answers = counted.Sum(c => c.Answers);
        double p = counted.Sum(c => c.Successes) / answers;
        if (p is 0 or 1)
            return Wilson(p, counted.Count);
        double scatter = counted.Sum(c => Math.Pow(c.Successes - p * c.Answers, 2));
        double trials = scatter > 0 ? p * (1 - p) * answers * answers / scatter : answers;
        return Wilson(p, Math.Clamp(trials, counted.Count, answers));
    }

    /// <summary>
    /// Probability that at least one of <paramref name="k"/> samples succeeds, estimated without bias from
    /// <paramref name="samples"/> of which <paramref name="successes"/> do: 1 − C(n−c, k) / C(n, k) (Chen et al. 2021,
    /// "Evaluating Large Language Models Trained on Code").
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">k is not 1 .. samples, or successes are not 0 .. samples.</exception>
    public static double PassAt(int k, int samples, int successes)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(k, samples);
        ArgumentOutOfRangeException.ThrowIfNegative(successes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(successes, samples);
        double none = 1;
        for (int i = 0; i < k; i++)
            none *= Math.Max(0, samples - successes - i) / (double)(samples - i);
        return 1 - none;
    }

    /// <summary>
    /// 95% interval of the difference of two shares over the same problems, paired by problem: the two intervals of
    /// <see cref="OverProblems"/> combined by their correlation (method 10 of Newcombe 1998, "Improved confidence intervals
    /// for the difference between binomial proportions based on paired data"). It holds for few problems, and when the
    /// answers agree on all.
    /// </summary>
    /// <param name="before">Shares by problem.</param>
    /// <param name="after">Shares of the same problems.</param>
    /// <exception cref="ArgumentException">The numbers of problems differ, or are 0.</exception>
    public static Interval PairedDifference(ProblemShares before, ProblemShares after)
    {
        if (before.Shares.Count != after.Shares.Count)
            throw new ArgumentException($"{before.Shares.Count} problems can't be paired with {after.Shares.Count}");
        var a = OverProblems(before.Shares, before.Answers);
        var b = OverProblems(after.Shares, after.Answers);
        double correlation = Correlation(before.Shares, after.Shares);
        double difference = b.Estimate - a.Estimate;
        return new(
            difference,
            difference - Combined(b.Estimate - b.Low, a.High - a.Estimate),
            difference + Combined(b.High - b.Estimate, a.Estimate - a.Low)
        );

        double Combined(double x, double y) => Math.Sqrt(Math.Max(0, x * x - 2 * correlation * x * y + y * y));
    }

    /// <summary>Pearson's, where a positive covariance is less by half a problem; 0 when one of the two is constant.</summary>
    private static double Correlation(IReadOnlyList<double> x, IReadOnlyList<double> y)
    {
        double meanX = x.Average();
        double meanY = y.Average();
        double xx = x.Sum(v => (v - meanX) * (v - meanX));
        double yy = y.Sum(v => (v - meanY) * (v - meanY));
        double xy = x.Zip(y, (a, b) => (a - meanX) * (b - meanY)).Sum();
        if (xy > 0)
            xy = Math.Max(0, xy - 0.5);
        return xx * yy > 0 ? xy / Math.Sqrt(xx * yy) : 0;
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
