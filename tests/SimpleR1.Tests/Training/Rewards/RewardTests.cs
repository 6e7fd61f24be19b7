using System.Text.Json.Nodes;
using CsCheck;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards;
using Xunit;

namespace SimpleR1.Tests.Training.Rewards;

public sealed class RewardTests
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private static RewardInput Input(string completion, string answer = "42") =>
        new(new Problem("What is 6 * 7?", answer, new Dictionary<string, JsonNode?>()), completion, false);

    private static RewardInput Countdown(string expression) =>
        new(
            new Problem(
                "?",
                "98",
                new Dictionary<string, JsonNode?> { ["nums"] = new JsonArray(44, 19, 35), ["target"] = 98 }
            ),
            $"<think>hm</think><answer>{expression}</answer>",
            false
        );

    [Theory]
    [InlineData("<think>a</think><answer>b</answer>", 1)]
    [InlineData(" <think>\na\n</think>\n\n<answer>b</answer>\n", 1)]
    [InlineData("<think></think><answer></answer>", 1)]
    [InlineData("<think>a</think> so <answer>b</answer>", 0)]
    [InlineData("a</think><answer>b</answer>", 0)]
    [InlineData("<think>a</think><answer>b", 0)]
    [InlineData("<think>a</think><answer>b</answer> and more", 0)]
    [InlineData("<think>a<think>b</think><answer>c</answer>", 0)]
    [InlineData("<think>a</think><answer>b</answer><answer>c</answer>", 0)]
    [InlineData("<answer>b</answer><think>a</think>", 0)]
    [InlineData("<think>a<answer></think>b</answer>", 0)]
    [InlineData("<think>a</think><answer></answer", 0)]
    [InlineData("<think></answer>", 0)]
    [InlineData("", 0)]
    public void Format_pays_only_one_think_block_and_then_one_answer_block(string completion, double expected) =>
        Assert.Equal(expected, BuiltInRewards.Format(Input(completion)));

    [Theory]
    [InlineData("<think>41</think><answer>42</answer>", 1)]
    [InlineData("<answer>41</answer> no, <answer> 42.0 </answer>", 1)]
    [InlineData("<answer>42</answer> no, <answer>41</answer>", 0)]
    [InlineData("so it is \\boxed{42}", 1)]
    [InlineData("\\boxed{42} <answer>41</answer>", 0)]
    [InlineData("<answer>The answer is $42$ apples.</answer>", 1)]
    [InlineData("<answer>42", 0)]
    [InlineData("<answer>6 * 7</answer>", 0)]
    [InlineData("<answer>6 * 7 = 42</answer>", 1)]
    [InlineData("<answer>6 * 7 = 6 * 7</answer>", 0)]
    [InlineData("<answer>40 + 2</answer>", 0)]
    [InlineData("<answer>84/2</answer>", 0)]
    [InlineData("<answer>\\sqrt{1764}</answer>", 0)]
    [InlineData("<answer>x = 42</answer>", 1)]
    [InlineData("<answer>41, 42</answer>", 0)]
    [InlineData("<answer>42 or 43</answer>", 0)]
    [InlineData("<answer>\\pm 42</answer>", 0)]
    [InlineData("<answer>4.2 \\times 10^1</answer>", 1)]
    [InlineData("it is 42", 0)]
    [InlineData("<answer></answer>", 0)]
    public void Accuracy_judges_the_last_answer(string completion, double expected) =>
        Assert.Equal(expected, BuiltInRewards.Accuracy(Input(completion)));

    [Fact]
    public async Task Accuracy_takes_the_last_number_only_when_asked()
    {
        var set = RewardSet.Load([new() { Name = "accuracy", AcceptLastNumber = true }]);
        Assert.Equal(1, (await set.ScoreAsync(Input("6 times 7 is 42."), Stop)).Total);
        Assert.Equal(0, (await set.ScoreAsync(Input("42 or 43"), Stop)).Total);
        Assert.Equal(0, (await set.ScoreAsync(Input("no idea"), Stop)).Total);
    }

    [Theory]
    [InlineData("44 + 19 + 35", 1)]
    [InlineData("(44+19)+35", 1)]
    [InlineData("35 - (-19) + 44", 1)]
    [InlineData("44 + 19 + 36", 0)]
    [InlineData("98", 0)]
    [InlineData("44 + 44 + 10", 0)]
    [InlineData("44 + 19 + 35 = 98", 0)]
    [InlineData("44 + 19 + 35 + (44 - 44)", 0)]
    [InlineData("(44 + 19 + 35", 0)]
    [InlineData("44 + 19 + 35)", 0)]
    [InlineData("44 / 0 + 19 + 35", 0)]
    [InlineData("44 19 35", 0)]
    [InlineData("", 0)]
    public void Countdown_pays_an_expression_over_each_number_once(string expression, double expected) =>
        Assert.Equal(expected, CountdownReward.Score(Countdown(expression)));

    [Fact]
    public void Countdown_is_exact_and_bounded()
    {
        Assert.True(CountdownReward.Reaches("3 / (1 - 2/3) * 3", [1, 2, 3, 3, 3], 27));
        Assert.True(CountdownReward.Reaches("8/(3-8/3)", [3, 3, 8, 8], 24));
        Assert.False(CountdownReward.Reaches(new string('(', 200) + "1" + new string(')', 200), [1], 1));
        Assert.False(CountdownReward.Reaches(new string('-', 400) + "1", [1], 1));
        Assert.False(CountdownReward.Reaches(new string('9', 100_000), [9], 9));
    }

    [Fact]
    public void Countdown_never_throws_on_any_text() =>
        Gen.String[Gen.Char["0123456789+-*/() .xe^\n√"], 0, 40]
            .Sample(
                text =>
                {
                    CountdownReward.Reaches(text, [1, 2, 3], 6);
                },
                iter: 20_000
            );

    [Fact]
    public void Countdown_of_a_problem_without_numbers_throws() =>
        Assert.Contains(
            "'nums'",
            Assert.Throws<InvalidDataException>(() => CountdownReward.Score(Input("<answer>1</answer>"))).Message
        );

    [Fact]
    public async Task Score_is_the_weighted_sum_and_keeps_each_value()
    {
        var set = RewardSet.Load([new() { Name = "accuracy", Weight = 2 }, new() { Name = "format", Weight = -0.5 }]);
        var score = await set.ScoreAsync(Input("<think>6*7</think><answer>42</answer>"), Stop);
        Assert.Equal(1.5, score.Total);
        Assert.Equal([("accuracy", 1.0), ("format", 1.0)], score.ByName.Select(r => (r.Key, r.Value)));
    }

    [Fact]
    public async Task Score_is_correct_with_full_marks_by_the_rewards_that_judge_answers()
    {
        const string Right = "<answer>42</answer>"; // but not in the format
        RewardSection accuracy = new() { Name = "accuracy" };
        RewardSection format = new() { Name = "format" };
        Assert.True((await RewardSet.Load([accuracy, format]).ScoreAsync(Input(Right), Stop)).Correct);
        Assert.False((await RewardSet.Load([accuracy, format]).ScoreAsync(Input("<answer>41</answer>"), Stop)).Correct);

        // A recipe can say otherwise
        Assert.False(
            (
                await RewardSet.Load([accuracy, format with { JudgesAnswers = true }]).ScoreAsync(Input(Right), Stop)
            ).Correct
        );
        RewardSection[] turned = [accuracy with { JudgesAnswers = false }, format with { JudgesAnswers = true }];
        Assert.True(
            (await RewardSet.Load(turned).ScoreAsync(Input("<think>a</think><answer>41</answer>"), Stop)).Correct
        );

        // Where none judges answers, all count; without any reward nothing is correct
        Assert.False((await RewardSet.Load([format]).ScoreAsync(Input(Right), Stop)).Correct);
        Assert.True(
            (await RewardSet.Load([format]).ScoreAsync(Input("<think>a</think><answer>41</answer>"), Stop)).Correct
        );
        Assert.False((await new RewardSet([]).ScoreAsync(Input(Right), Stop)).Correct);
    }

    [Fact]
    public async Task Score_of_a_reward_that_throws_names_the_reward_the_problem_and_the_completion()
    {
        var set = new RewardSet([new("broken", 1, RewardFunction.Plain(_ => throw new FormatException("oh no")))]);
        string message = (
            await Assert.ThrowsAsync<RewardException>(async () =>
                await set.ScoreAsync(Input("half " + new string('x', 1000)), Stop)
            )
        ).Message;
        Assert.StartsWith("the reward 'broken' threw FormatException: oh no", message);
        Assert.Contains("What is 6 * 7?", message);
        Assert.Contains("completion: half xxx", message);
        Assert.True(message.Length < 800);
    }

    [Theory]
    [InlineData(double.NaN, "returned NaN")]
    [InlineData(double.PositiveInfinity, "returned Infinity")]
    public async Task Score_of_a_reward_that_returns_no_finite_number_is_an_error(double value, string expected)
    {
        var set = new RewardSet([new("odd", 1, RewardFunction.Plain(_ => value))]);
        var error = await Assert.ThrowsAsync<RewardException>(async () => await set.ScoreAsync(Input("a"), Stop));
        Assert.Contains("the reward 'odd' " + expected, error.Message);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(192, 0)]
    [InlineData(208, -0.25)]
    [InlineData(256, -1)]
    [InlineData(300, -1)]
    public async Task Overlong_falls_from_the_soft_limit_to_the_hard_one(int tokens, double expected)
    {
        RewardSection accuracy = new() { Name = "accuracy" };
        RewardSection overlong = new()
        {
            Name = "overlong",
            Weight = 0.5,
            SoftLimit = 192,
            HardLimit = 256,
        };
        var input = Input("<answer>42</answer>") with { Tokens = tokens };
        var score = await RewardSet.Load([accuracy, overlong]).ScoreAsync(input, Stop);
        Assert.Equal(expected, score.ByName["overlong"]);
        Assert.Equal(1 + 0.5 * expected, score.Total);
        Assert.True(score.Correct); // a penalty says nothing of the answer
    }

    [Fact]
    public async Task Random_pays_half_of_the_samples_by_their_names_and_the_runs_seed()
    {
        RewardSection[] sections = [new() { Name = "random" }, new() { Name = "accuracy", Weight = 0 }];
        var set = RewardSet.Load(sections, seed: 1);
        RewardInput[] inputs =
        [
            .. Enumerable
                .Range(0, 2000)
                .Select(i => Input("the same text") with { Id = $"step-1-prompt-{i / 8}-sample-{i % 8}" }),
        ];
        double[] paid = await PaidAsync(set);
        Assert.InRange(paid.Sum(), 900, 1100); // 1,000 with a standard deviation of 22
        Assert.Equal(paid, await PaidAsync(RewardSet.Load(sections, seed: 1)));
        Assert.NotEqual(paid, await PaidAsync(RewardSet.Load(sections, seed: 2)));

        double neighbours = paid.Zip(paid.Skip(1)).Average(p => p.First == p.Second ? 1.0 : 0);
        Assert.InRange(neighbours, 0.45, 0.55);
        Assert.False((await set.ScoreAsync(inputs[0], Stop)).Correct);
        Assert.True((await set.ScoreAsync(Input("<answer>42</answer>"), Stop)).Correct);

        async Task<double[]> PaidAsync(RewardSet rewards)
        {
            var values = new double[inputs.Length];
            for (int i = 0; i < values.Length; i++)
                values[i] = (await rewards.ScoreAsync(inputs[i], Stop)).Total;
            return values;
        }
    }
}
