using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class DataMixTests : DataFolder
{
    private const string Recipe = """
        name: mix
        model: {path: m}
        rewards: [{name: accuracy}]
        data:
          train:
            - {path: FOLDER/a.jsonl, weight: 3}
            - {generator: arithmetic, count: 50, weight: 1, name: sums}
        """;

    private DataSource Train(params string[] overrides)
    {
        Write("a.jsonl", "{\"question\": \"q1\", \"answer\": 1}\n{\"question\": \"q2\", \"answer\": 2}");
        return RecipeFile.Parse<TrainRecipe>(Recipe.Replace("FOLDER", Folder), "r.yaml", overrides).Data.Train;
    }

    [Fact]
    public void Weights_say_how_often_each_source_is_drawn()
    {
        var source = Train();
        var problems = Dataset.Load(source);
        Assert.Equal(52, problems.Count);
        var order = DataMix.Order(source, problems.Select(p => p.Source), 5);
        string[] drawn = [.. Enumerable.Range(0, 400).Select(_ => problems[order.Next()].Source)];
        Assert.Equal(300, drawn.Count(s => s == "a"));
        Assert.Equal(100, drawn.Count(s => s == "sums"));
        Assert.Equal(
            "2 sources: a 2 (75.0% of draws), sums 50 (25.0% of draws)",
            DataMix.Describe(source, problems.Select(p => p.Source))
        );
    }

    [Fact]
    public void Sources_without_weights_are_shuffled_together()
    {
        var source = Train("data.train.sources.0.weight=null", "data.train.sources.1.weight=null");
        var problems = Dataset.Load(source);
        var mixed = DataMix.Order(source, problems.Select(p => p.Source), 5);
        var plain = new DataOrder(52, 5);
        Assert.Equal(
            Enumerable.Range(0, 60).Select(_ => plain.Next()),
            Enumerable.Range(0, 60).Select(_ => mixed.Next())
        );
    }

    [Fact]
    public void One_source_is_in_the_order_of_a_plain_list()
    {
        var source = new DataSource { Generator = "arithmetic", Count = 40 };
        var problems = Dataset.Load(source);
        var mixed = DataMix.Order(source, problems.Select(p => p.Source), 7);
        var plain = new DataOrder(40, 7);
        Assert.Equal(
            Enumerable.Range(0, 99).Select(_ => plain.Next()),
            Enumerable.Range(0, 99).Select(_ => mixed.Next())
        );
    }

    [Fact]
    public void Recipes_with_a_list_of_sources_are_written_as_they_were_read()
    {
        Write("a.jsonl", "{}");
        var recipe = RecipeFile.Parse<TrainRecipe>(Recipe.Replace("FOLDER", Folder), "r.yaml");
        Assert.Equal(recipe, RecipeFile.Parse<TrainRecipe>(RecipeFile.Write(recipe), "written.yaml"));
    }

    [Theory]
    [InlineData("data.train.sources.1.weight=null", "data.train.sources.1.weight")]
    [InlineData("data.train.sources.1.weight=0", "data.train.sources.1.weight")]
    [InlineData("data.train.sources.0.generator=arithmetic", "data.train.sources.0.path")]
    [InlineData("data.train.sources.0={sources: [{path: a.jsonl}]}", "data.train.sources.0")]
    [InlineData("data.train.path=x.jsonl", "data.train.sources")]
    [InlineData("data.train.sources.0.name=sums", "data.train.sources.1.name")]
    [InlineData("data.evaluation=[{path: a.jsonl, weight: 1}]", "data.evaluation.sources.0.weight")]
    public void Impossible_mixes_are_refused(string setting, string key) =>
        Assert.Contains(Assert.Throws<RecipeException>(() => Train(setting)).Problems, p => p.Key == key);
}
