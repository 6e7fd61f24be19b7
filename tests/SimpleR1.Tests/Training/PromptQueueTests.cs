using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rollouts;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class PromptQueueTests
{
    private const int Problems = 20;

    private static readonly TrainRecipe Recipe = RecipeFile.Parse<TrainRecipe>(
        """
        name: queue
        model: {path: recipes/tiny-base}
        data: {train: {generator: arithmetic, count: 20}}
        rollout: {prompts_per_step: 3, carry: 2}
        rewards: [{name: accuracy}]
        """,
        "queue.yaml"
    );

    private static PromptQueue Queue(DataOrder order)
    {
        var tokenizer = Tokenizer.Load(Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base"));
        var requests = new RequestFactory(Recipe, tokenizer, PromptTemplate.Create("Q: {question}"));
        Problem[] problems =
        [
            .. Enumerable.Range(0, Problems).Select(i => new Problem($"{i}", "", new Dictionary<string, JsonNode?>())),
        ];
        return new(Recipe.Rollout, requests, problems, order);
    }

    [Fact]
    public void Next_begins_with_the_carried_groups_and_fills_up_in_the_orders_sequence()
    {
        var order = new DataOrder(Problems, 1);
        var queue = Queue(order);
        var first = queue.Next(0);
        Assert.Equal([0, 1, 2, 3, 4], first.Select(p => p.Position));
        Assert.Equal("step-0-prompt-4", first[4].Request.Id);

        queue.Carry([first[1], first[3]]);
        Assert.Equal([1, 3], queue.CarriedPositions);
        var second = queue.Next(1);
        Assert.Equal([1, 3, 5, 6, 7], second.Select(p => p.Position));
        Assert.Same(first[1], second[0]);
        Assert.Equal("step-1-prompt-0", second[2].Request.Id);
        Assert.Empty(queue.CarriedPositions);
    }

    [Fact]
    public void Resume_takes_carried_groups_up_under_ids_that_the_step_does_not_use()
    {
        var order = new DataOrder(Problems, 1);
        var expected = Queue(order).Next(0);
        var queue = Queue(order);
        queue.Resume(1, [1, 3]);
        var prompts = queue.Next(1);
        Assert.Equal([1, 3, 5, 6, 7], prompts.Select(p => p.Position));
        Assert.Equal(expected[1].Problem.Question, prompts[0].Problem.Question);
        Assert.Equal(5, prompts.Select(p => p.Request.Id).Distinct().Count());
        Assert.Equal(5, prompts.Select(p => p.Request.Sampling.Seed).Distinct().Count());
    }
}
