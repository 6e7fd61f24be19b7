using SimpleR1.Tests.Training.Recipes;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

/// <summary>Well-known data sets are read without a word about their columns.</summary>
public sealed class DataSetLayoutTests : DataFolder
{
    [Theory]
    [InlineData("gsm8k-test.jsonl", "A box holds 12 eggs. How many eggs do 5 boxes hold?", "60", "60")]
    [InlineData("svamp.jsonl", "There are 290 pears in 2 crates. How many pears are in each crate?", "145.0", "145")]
    [InlineData(
        "svamp-hub.jsonl",
        "There are 290 pears in 2 crates. How many pears are in each crate?",
        "145.0",
        "145"
    )]
    [InlineData("math500.jsonl", "What is $\\frac{1}{2}$ of $\\frac{1}{3}$?", "\\frac{1}{6}", "1/6")]
    [InlineData("aime24.jsonl", "Find the remainder of $7^2$ divided by 10.", "009", "9")]
    [InlineData("aime24-hub.jsonl", "Find the remainder of $7^2$ divided by 10.", "9", "9")]
    public void Rows_have_their_question_and_gold_answer(string file, string question, string gold, string answer)
    {
        var problem = Dataset.Load(new() { Path = TinyRecipes.RowsOf(file), RequireComplete = true })[0];
        Assert.Equal((question, gold), (problem.Question, problem.Answer));
        Assert.Equal(1, BuiltInRewards.Accuracy(new(problem, $"so \\boxed{{{answer}}}", false)));
        Assert.Equal(0, BuiltInRewards.Accuracy(new(problem, "so \\boxed{7}", false)));
    }

    [Fact]
    public void Rows_of_countdown_are_asked_with_their_numbers()
    {
        var problem = Dataset.Load(new() { Path = TinyRecipes.RowsOf("countdown.jsonl") })[0];
        Assert.StartsWith("Using the numbers [44, 19, 35], create an expression that equals 98.", problem.Question);
        Assert.Equal(1, CountdownReward.Score(new(problem, "<answer>44 + 19 + 35</answer>", false)));
    }

    [Theory]
    [InlineData("""{"QUESTION": "q", "ANSWER": "a"}""", "q")]
    [InlineData("""{"Problem": "q", "Answer": "a", "solution": "long"}""", "q")]
    [InlineData("""{"Question": "q", "question": "small", "answer": "a"}""", "small")] // the name as it is comes first
    [InlineData("""{"body": "b", "question": "q", "answer": "a"}""", "b q")]
    [InlineData("""{"Body": "b", "problem": "q", "answer": "a"}""", "q")]
    public void Names_of_columns_are_found_in_any_case(string row, string question)
    {
        var problem = Dataset.Load(new() { Path = Write("x.jsonl", row) }).Single();
        Assert.Equal((question, "a"), (problem.Question, problem.Answer));
    }

    /// <summary>The sets themselves, whole.</summary>
    [Theory]
    [InlineData("gsm8k/train.jsonl", 7473)]
    [InlineData("gsm8k/test.jsonl", 1319)]
    [InlineData("svamp/test.jsonl", 1000)]
    [InlineData("svamp/test.parquet", 1000)]
    [InlineData("math500/test.jsonl", 500)]
    [InlineData("aime24/test.jsonl", 30)]
    [InlineData("countdown/test.jsonl", 1024)]
    public void Whole_sets_are_read(string path, int count)
    {
        var problems = Dataset.Load(new() { Path = SharedData.Require(path), RequireComplete = true });
        Assert.Equal(count, problems.Count);
        if (path.StartsWith("svamp", StringComparison.Ordinal))
            Assert.All(problems, p => Assert.True(p.Question.Length > ((string)p.Fields["Question"]!).Length));
    }
}
