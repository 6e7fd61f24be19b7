using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rollouts;
using Xunit;

namespace SimpleR1.Tests.Training.Rollouts;

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

    private static PromptQueue Queue(DataOrder order, DifficultyPool? pool = null)
    {
        var tokenizer = Tokenizer.Load(Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base"));
        var requests = new RequestFactory(Recipe, tokenizer, PromptTemplate.Create("Q: {question}"));
        Problem[] problems =
        [
            .. Enumerable.Range(0, Problems).Select(i => new Problem($"{i}", "", new Dictionary<string, JsonNode?>())),
        ];
        return new(Recipe.Rollout, requests, problems, order) { Pool = pool };
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
    public void More_prompts_of_a_step_have_ids_and_seeds_of_their_own()
    {
        var queue = Queue(new DataOrder(Problems, 1));
        PromptGroup[] prompts = [.. queue.Next(3), .. queue.More(3, 2)];
        Assert.Equal([0, 1, 2, 3, 4, 5, 6], prompts.Select(p => p.Position));
        Assert.Equal("step-3-prompt-6", prompts[6].Request.Id);
        Assert.Equal(7, prompts.Select(p => p.Request.Sampling.Seed).Distinct().Count());
        Assert.Equal("step-4-prompt-0", queue.Next(4)[0].Request.Id);
    }

    [Fact]
    public void Problems_that_the_pool_leaves_out_lose_their_turn_until_none_is_left()
    {
        var pool = new DifficultyPool(new() { MinSolved = 0.5, Revisit = 0 }, 1);
        var order = new DataOrder(Problems, 1);
        var queue = Queue(order, pool);
        var first = queue.Next(0);
        queue.Measure(first, SampleGroups.Of([0, 0], [1, 0], [0, 0], [1, 1], [0, 0]));
        Assert.Equal(
            new long[] { 0, 2, 4 }
                .Select(order.At)
                .Order(),
            pool.LeftOut
        );

        int[] asked = [.. queue.Next(1).Concat(queue.More(1, 2 * Problems)).Select(p => order.At(p.Position))];
        Assert.Empty(asked.Intersect(pool.LeftOut));

        foreach (int problem in Enumerable.Range(0, Problems))
            pool.Measure(problem, 0);
        Assert.Equal(5, queue.Next(2).Count);
    }

    [Fact]
    public void Resume_takes_carried_groups_up_under_ids_that_the_step_does_not_use()
    {
        var order = new DataOrder(Problems, 1);
        var expected = Queue(order).Next(0);
        var queue = Queue(order);
        queue.Resume(new(1, 1, 5, 1, 0) { Carried = [1, 3] });
        var prompts = queue.Next(1);
        Assert.Equal([1, 3, 5, 6, 7], prompts.Select(p => p.Position));
        Assert.Equal(expected[1].Problem.Question, prompts[0].Problem.Question);
        Assert.Equal(5, prompts.Select(p => p.Request.Id).Distinct().Count());
        Assert.Equal(5, prompts.Select(p => p.Request.Sampling.Seed).Distinct().Count());
    }
}
