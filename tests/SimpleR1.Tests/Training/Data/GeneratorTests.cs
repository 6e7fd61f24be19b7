using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards.Mathematics;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class GeneratorTests
{
    [Theory]
    [InlineData("arithmetic")]
    [InlineData("countdown")]
    public void Generators_give_the_same_distinct_problems_for_a_seed_whatever_the_count(string name)
    {
        var long_ = Generators.Make(name, 300, 7);
        Assert.Equal(long_.Take(50).Select(p => p.Question), Generators.Make(name, 50, 7).Select(p => p.Question));
        Assert.Equal(300, long_.Select(p => p.Question).Distinct().Count());
        Assert.NotEqual(long_[0].Question, Generators.Make(name, 1, 8)[0].Question);
        Assert.Equal(
            long_.Skip(290).Select(p => p.Question),
            Dataset
                .Load(
                    new()
                    {
                        Generator = name,
                        Count = 300,
                        Seed = 7,
                        Skip = 290,
                    }
                )
                .Select(p => p.Question)
        );
    }

    [Fact]
    public void Arithmetic_answers_are_the_values_of_their_expressions()
    {
        foreach (
            var problem in Generators.Make(
                "arithmetic",
                500,
                3,
                new()
                {
                    Terms = 4,
                    Digits = 3,
                    Operations = "+-*",
                }
            )
        )
            Assert.True(
                MathAnswers.Match(problem.Answer, (string)problem.Fields["expression"]!),
                problem.Question + " " + problem.Answer
            );
    }

    [Fact]
    public void Countdown_targets_can_be_reached()
    {
        foreach (
            var problem in Generators.Make(
                "countdown",
                200,
                5,
                new()
                {
                    MinNumbers = 2,
                    MaxNumbers = 4,
                    MaxTarget = 50,
                }
            )
        )
        {
            var numbers = problem.Fields["nums"]!.AsArray().Select(n => (double)(int)n!).ToList();
            int target = (int)problem.Fields["target"]!;
            Assert.InRange(numbers.Count, 2, 4);
            Assert.InRange(target, 1, 50);
            Assert.True(Reachable(numbers, target), problem.Question);
        }

        static bool Reachable(List<double> left, double target)
        {
            if (left.Count == 1)
                return Math.Abs(left[0] - target) < 1e-9;
            for (int i = 0; i < left.Count; i++)
            for (int j = 0; j < left.Count; j++)
            {
                if (i == j)
                    continue;
                var rest = left.Where((_, k) => k != i && k != j).ToList();
                foreach (
                    double value in new[] { left[i] + left[j], left[i] - left[j], left[i] * left[j], left[i] / left[j] }
                )
                    if (double.IsFinite(value) && Reachable([.. rest, value], target))
                        return true;
            }
            return false;
        }
    }

    [Fact]
    public void Generators_that_run_out_of_problems_say_how_many_there_are() =>
        Assert.Contains(
            "about 100 different problems, not 500",
            Assert
                .Throws<ArgumentException>(() =>
                    Generators.Make("arithmetic", 500, 1, new() { Digits = 1, Operations = "+" })
                )
                .Message
        );
}
