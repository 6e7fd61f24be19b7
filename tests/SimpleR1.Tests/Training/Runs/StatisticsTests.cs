using System.Numerics;
using SimpleR1.Training.Runs.Evaluations;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

public sealed class StatisticsTests
{
    /// <summary>Reference values of statsmodels' proportion_confint(method="wilson").</summary>
    [Theory]
    [InlineData(0, 10, 0, 0.2775327998628892)]
    [InlineData(10, 10, 0.7224672001371108, 1)]
    [InlineData(350, 500, 0.6584, 0.7385)]
    [InlineData(5, 10, 0.2365930905125640, 0.7634069094874360)]
    public void Wilson_interval_is_the_published_one(int successes, int trials, double low, double high)
    {
        var interval = Statistics.Wilson(successes, trials);
        double tolerance = trials == 500 ? 1e-4 : 1e-12;
        Assert.Equal(low, interval.Low, tolerance);
        Assert.Equal(high, interval.High, tolerance);
        Assert.Equal((double)successes / trials, interval.Estimate);
        Assert.Equal("50.0% [23.7, 76.3]", Statistics.Wilson(5, 10).Percent);
    }

    [Fact]
    public void Bootstrap_of_a_mean_agrees_with_the_normal_interval_for_many_values()
    {
        var random = new Random(2);
        double[] values = [.. Enumerable.Range(0, 2000).Select(_ => random.NextDouble())];
        var interval = Statistics.BootstrapMean(values);
        double half = 1.96 * Math.Sqrt(1.0 / 12 / values.Length);
        Assert.Equal(interval.Estimate - half, interval.Low, 0.15 * half);
        Assert.Equal(interval.Estimate + half, interval.High, 0.15 * half);
        Assert.Equal(interval, Statistics.BootstrapMean(values));
    }

    /// <summary>Greedy answers to a problem are all the same: sixteen of them say no more than one.</summary>
    [Theory]
    [InlineData(26, 32)]
    [InlineData(0, 12)]
    [InlineData(12, 12)]
    [InlineData(48, 512)]
    [InlineData(1, 3)]
    public void Interval_over_problems_with_equal_repeats_is_that_of_one_answer_bit_for_bit(int solved, int problems)
    {
        double[] shares = [.. Enumerable.Range(0, problems).Select(i => i * 7 % problems < solved ? 1.0 : 0)];
        solved = (int)shares.Sum();
        Assert.Equal(Statistics.Wilson(solved, problems), Statistics.OverProblems(shares, 16));
        Assert.Equal(Statistics.Wilson(solved, problems), Statistics.OverProblems(shares, 1));
    }

    [Fact]
    public void Interval_over_problems_that_are_all_alike_is_that_of_all_answers()
    {
        double[] shares = [.. Enumerable.Repeat(0.25, 40)];
        Assert.Equal(Statistics.Wilson(160, 640), Statistics.OverProblems(shares, 16));
        Assert.Equal("81.2% [64.7, 91.1]", Statistics.Wilson(26, 32).Percent);
    }

    /// <summary>New problems each time, some easy and some hard: 95% of the intervals must hold the mean difficulty.</summary>
    [Theory]
    [InlineData(60, 8)]
    [InlineData(200, 4)]
    [InlineData(30, 2)]
    public void Interval_over_problems_holds_the_truth_as_often_as_it_says(int problems, int answers)
    {
        var random = new Random(5);
        const int runs = 2000;
        int held = 0;
        int heldByAnswers = 0;
        for (int run = 0; run < runs; run++)
        {
            double[] shares = [.. Enumerable.Range(0, problems).Select(_ => Share(random.NextDouble()))];
            var interval = Statistics.OverProblems(shares, answers);
            held += interval.Low <= 0.5 && interval.High >= 0.5 ? 1 : 0;
            var naive = Statistics.Wilson((int)Math.Round(shares.Sum() * answers), problems * answers);
            heldByAnswers += naive.Low <= 0.5 && naive.High >= 0.5 ? 1 : 0;
        }
        Assert.InRange(held / (double)runs, 0.935, 0.965);
        Assert.True(heldByAnswers < held, "answers counted as problems give the narrower interval");

        double Share(double difficulty) =>
            Enumerable.Range(0, answers).Count(_ => random.NextDouble() < difficulty) / (double)answers;
    }

    /// <summary>The share of all subsets of k samples that hold a success, counted one by one.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(8)]
    public void PassAt_is_the_share_of_subsets_with_a_success(int samples)
    {
        for (int successes = 0; successes <= samples; successes++)
        for (int k = 1; k <= samples; k++)
        {
            int subsets = 0;
            int solved = 0;
            for (uint subset = 0; subset < 1u << samples; subset++)
            {
                if (BitOperations.PopCount(subset) != k)
                    continue;
                subsets++;
                solved += (subset & ((1u << successes) - 1)) != 0 ? 1 : 0; // the first ones succeed
            }
            Assert.Equal(solved / (double)subsets, Statistics.PassAt(k, samples, successes), 1e-12);
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => Statistics.PassAt(samples + 1, samples, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Statistics.PassAt(0, samples, 1));
    }

    /// <summary>
    /// Airway hyper-responsiveness before and after a transplantation (Bentur et al. 2009), with Newcombe's interval as in
    /// Fagerland, Lydersen and Laake (2014), "Recommended tests and confidence intervals for paired binomial proportions".
    /// </summary>
    [Fact]
    public void Paired_difference_is_the_published_one()
    {
        double[] before = [.. Shares(both: 1, first: 1, second: 7, neither: 12).Select(p => p.First)];
        double[] after = [.. Shares(both: 1, first: 1, second: 7, neither: 12).Select(p => p.Second)];
        var difference = Statistics.PairedDifference(new(after, 1), new(before, 1));
        Assert.Equal(-6 / 21.0, difference.Estimate, 1e-12);
        Assert.Equal(-0.507, difference.Low, 5e-4);
        Assert.Equal(-0.026, difference.High, 5e-4);
        Assert.Equal("+28.6 points [+2.6, +50.7]", Statistics.PairedDifference(new(before, 1), new(after, 1)).Points);

        static IEnumerable<(double First, double Second)> Shares(int both, int first, int second, int neither) =>
            [
                .. Enumerable.Repeat((1.0, 1.0), both),
                .. Enumerable.Repeat((1.0, 0.0), first),
                .. Enumerable.Repeat((0.0, 1.0), second),
                .. Enumerable.Repeat((0.0, 0.0), neither),
            ];
    }

    [Fact]
    public void Paired_difference_holds_the_truth_and_is_narrower_than_without_pairs()
    {
        var random = new Random(3);
        const int runs = 1500;
        int held = 0;
        double width = 0;
        double widthAlone = 0;
        for (int run = 0; run < runs; run++)
        {
            double[] difficulty = [.. Enumerable.Range(0, 80).Select(_ => random.NextDouble() < 0.5 ? 0.1 : 0.8)];
            double[] before = [.. difficulty.Select(d => Share(d))];
            double[] after = [.. difficulty.Select(d => Share(d + 0.1))];
            var difference = Statistics.PairedDifference(new(before, 4), new(after, 4));
            held += difference.Low <= 0.1 && difference.High >= 0.1 ? 1 : 0;
            width += difference.High - difference.Low;
            var alone = Statistics.OverProblems(after, 4);
            widthAlone += (alone.High - alone.Low) * Math.Sqrt(2);
        }
        Assert.InRange(held / (double)runs, 0.93, 0.985);
        Assert.True(width < 0.75 * widthAlone, $"{width / runs} against {widthAlone / runs}");

        double Share(double p) => Enumerable.Range(0, 4).Count(_ => random.NextDouble() < p) / 4.0;
    }

    [Fact]
    public void Paired_difference_of_equal_answers_is_nothing_within_an_interval()
    {
        double[] shares = [1, 0, 1, 1, 0, 1, 1, 1];
        var difference = Statistics.PairedDifference(new(shares, 1), new(shares, 1));
        Assert.Equal(0, difference.Estimate);
        Assert.True(difference is { Low: < 0, High: > 0 }, difference.Points);
        Assert.Throws<ArgumentException>(() => Statistics.PairedDifference(new(shares, 1), new([1, 0], 1)));
    }

    [Fact]
    public void Share_over_answers_is_that_over_problems_where_all_have_as_many()
    {
        int[] successes = [4, 0, 3, 1, 1, 0, 2, 4];
        var expected = Statistics.OverProblems([.. successes.Select(s => s / 4.0)], 4);
        var found = Statistics.OverAnswers([.. successes.Select(s => new AnswerCount(s, 4)), new(0, 0)]);
        Assert.Equal(expected.Estimate, found.Estimate, 1e-12);
        Assert.Equal(expected.Low, found.Low, 1e-12);
        Assert.Equal(expected.High, found.High, 1e-12);

        // Two problems that scatter as much as problems can: two trials, not five
        var few = Statistics.OverAnswers([new(3, 3), new(0, 2)]);
        var five = Statistics.Wilson(3, 5);
        Assert.True(few.Estimate == 0.6 && few.Low < five.Low && few.High > five.High, few.Percent);
        Assert.Throws<ArgumentException>(() => Statistics.OverAnswers([new(0, 0)]));
    }

    /// <summary>The interval of a paired difference is about that of a bootstrap over problems, where that one holds.</summary>
    [Fact]
    public void Paired_difference_agrees_with_a_paired_bootstrap_over_many_problems()
    {
        var random = new Random(4);
        const int problems = 800;
        double[] difficulty = [.. Enumerable.Range(0, problems).Select(_ => 0.8 * random.NextDouble())];
        double[] before = [.. difficulty.Select(d => Draw(d))];
        double[] after = [.. difficulty.Zip(before, (d, b) => random.NextDouble() < 0.5 ? b : Draw(d + 0.2))];
        var difference = Statistics.PairedDifference(new(before, 1), new(after, 1));
        var bootstrap = Statistics.BootstrapMean([.. after.Zip(before, (a, b) => a - b)], resamples: 10_000);
        double half = (bootstrap.High - bootstrap.Low) / 2;
        Assert.Equal(bootstrap.Estimate, difference.Estimate, 1e-12);
        Assert.Equal(bootstrap.Low, difference.Low, 0.1 * half);
        Assert.Equal(bootstrap.High, difference.High, 0.1 * half);

        double Draw(double p) => random.NextDouble() < p ? 1 : 0;
    }
}
