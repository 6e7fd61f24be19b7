using System.Text.Json.Nodes;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Fingerprints;
using Xunit;

namespace SimpleR1.Tests.Training.Rollouts;

public sealed class DifficultyPoolTests
{
    private static DifficultyPool Pool(double revisit = 0) =>
        new(
            new()
            {
                MinSolved = 0.2,
                MaxSolved = 0.8,
                Revisit = revisit,
            },
            seed: 7
        );

    [Fact]
    public void Problem_is_left_out_while_its_last_measure_is_outside_of_the_limits()
    {
        var pool = Pool();
        Assert.True(pool.Asks(3, 0)); // never measured
        foreach (var (solved, asks) in new[] { (0.0, false), (0.2, true), (1.0, false), (0.8, true), (0.81, false) })
        {
            pool.Measure(3, solved);
            Assert.Equal(asks, pool.Asks(3, 1));
        }
        Assert.True(pool.Asks(4, 1));

        var resumed = Pool();
        resumed.Measure(9, 1);
        resumed.Resume(pool.LeftOut);
        Assert.Equal([3], resumed.LeftOut);
        Assert.False(resumed.Asks(3, 1));
        Assert.True(resumed.Asks(9, 1));
    }

    [Fact]
    public void Share_of_the_turns_is_taken_all_the_same_and_follows_from_the_place()
    {
        var pool = Pool(revisit: 0.25);
        pool.Measure(0, 0);
        bool[] asks = [.. Enumerable.Range(0, 4000).Select(place => pool.Asks(0, place))];
        Assert.InRange(asks.Count(a => a), 900, 1100); // 1,000 with a standard deviation of 27
        Assert.Equal(asks, Enumerable.Range(0, 4000).Select(place => pool.Asks(0, place)));
    }

    [Fact]
    public void Measures_are_read_from_a_kept_evaluation_by_question_and_answer()
    {
        var folder = Directory.CreateTempSubdirectory("difficulty");
        try
        {
            var rollouts = SampleGroups.Of([1, 0, 0, 0], [1, 1, 1, 1]);
            EvaluationFiles.In(folder.FullName).Write(EvaluationOf(rollouts), "model");
            Problem[] problems =
            [
                Problem("question 1", "gold"),
                Problem("other", "gold"),
                Problem("question 0", "gold"),
            ];
            var solved = MeasuredDifficulty.Read(folder.FullName, problems);
            Assert.Equal([(0, 1.0), (2, 0.25)], solved.OrderBy(s => s.Key).Select(s => (s.Key, s.Value)));

            string message = Assert
                .Throws<InvalidDataException>(() =>
                    MeasuredDifficulty.Read(folder.FullName, [Problem("question 0", "another answer")])
                )
                .Message;
            Assert.Contains("answers none of the 1 training problems", message);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static Problem Problem(string question, string answer) =>
        new(question, answer, new Dictionary<string, JsonNode?>());

    private static Evaluation EvaluationOf(IReadOnlyList<Rollout> answers) =>
        new()
        {
            Step = 0,
            Answers = answers,
            Scores = EvaluationScores.Of(
                answers,
                new EvaluationSection { Samples = 4 },
                SimpleR1.Training.Rewards.AnswerVote.ByText
            ),
            Fingerprint = new Fingerprint([]),
        };
}
