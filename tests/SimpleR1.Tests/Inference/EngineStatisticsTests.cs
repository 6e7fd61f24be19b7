using System.Globalization;
using System.Reflection;
using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed class EngineStatisticsTests
{
    private static readonly PropertyInfo[] Figures = typeof(EngineStatistics).GetProperties();

    [Fact]
    public void Sum_adds_every_property_but_takes_the_newest_version()
    {
        var sum = EngineStatistics.Sum([Filled(1), Filled(10), Filled(100)]);
        Assert.All(
            Figures,
            (figure, i) =>
            {
                double expected = figure.Name == nameof(EngineStatistics.WeightVersion) ? 100 + i : 111 + 3 * i;
                Assert.Equal(expected, Convert.ToDouble(figure.GetValue(sum), CultureInfo.InvariantCulture));
            }
        );
    }

    [Fact]
    public void Sum_of_no_engines_is_zero() => Assert.Equal(new EngineStatistics(), EngineStatistics.Sum([]));

    /// <summary>
    /// Statistics whose i-th figure is <paramref name="first"/> + i, so that none can stand for another.
    /// </summary>
    private static EngineStatistics Filled(int first)
    {
        var statistics = new EngineStatistics();
        for (int i = 0; i < Figures.Length; i++)
        {
            object value = Convert.ChangeType(first + i, Figures[i].PropertyType, CultureInfo.InvariantCulture);
            Figures[i].SetValue(statistics, value);
        }

        return statistics;
    }
}
