using System.Net;
using System.Net.Sockets;
using SimpleR1.Training;
using SimpleR1.Training.Planning;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using Xunit;

namespace SimpleR1.Tests.Training;

/// <summary>What a run would do, and all that is wrong about it, before anything is loaded.</summary>
public sealed class PlanTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-plan-").FullName;
    private readonly List<string> log = [];

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private static string Model => Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base");

    private string Written(string name, string text)
    {
        string path = Path.Combine(folder, name);
        File.WriteAllText(path, text);
        return path;
    }

    private string Plan(string recipe, params string[] overrides) =>
        TrainPlan.Describe(
            Written("recipe.yaml", recipe),
            overrides,
            new(Path.Combine(folder, "runs"), ExistingRun.Refuse, new(_ => { }, _ => { }, log.Add))
        );

    private static string Good =>
        $$"""
            name: planned
            model: {path: {{Model}}, template: "Q: {question}\nA:", max_context: 128}
            data:
              train: {generator: arithmetic, count: 100, seed: 1}
              evaluation: {generator: arithmetic, count: 10, seed: 2}
            rewards: [{name: accuracy}]
            rollout: {prompts_per_step: 4, samples_per_prompt: 8, max_new_tokens: 40}
            training: {steps: 25, evaluate_every: 10, checkpoint_every: 10}
            workers: {count: 2, kv_cache_mib: 16}
            """;

    [Fact]
    public void Plan_shows_what_a_run_would_do_and_need_and_writes_nothing()
    {
        string plan = Plan(Good);
        foreach (
            string expected in new[]
            {
                "0.8 million parameters",
                "100 problems to train on, each drawn 1.0 times; 10 held out",
                "Q: ",
                "25 steps of 4 prompts × 8 samples = 32",
                "sampled 1,280 at most",
                "4 of 10 answers",
                "14 MB for weights, gradient and moments",
                "3 checkpoints of 10 MB, the newest 2 kept",
                "2 workers on cpu",
                "17 MB for the KV cache of 8,192 tokens",
                "256 sequences and 2,048 tokens at once",
            }
        )
            Assert.Contains(expected, plan);
        Assert.Empty(Directory.GetFileSystemEntries(folder, "runs"));
    }

    [Fact]
    public void All_mistakes_come_together_each_with_its_line()
    {
        using var occupied = new TcpListener(IPAddress.Loopback, 0);
        occupied.Start();
        string rewards = Written("Reward.cs", "public static class R { }");
        string empty = Written("empty.jsonl", "");
        string recipe = $$"""
            name: bad
            model:
              path: {{folder}}/nowhere
              template: nothing
            data:
              train: {path: {{folder}}/none.jsonl}
              evaluation: {path: {{empty}} }
            rewards:
              - name: accuracy
              - {name: Mine, file: {{rewards}} }
            rollout: {max_new_tokens: 40, temperatur: 1}
            workers:
              device: gpu7
              port: {{((IPEndPoint)occupied.LocalEndpoint).Port}}
            """;
        var problems = Assert.Throws<RecipeException>(() => Plan(recipe)).Problems;
        string file = Path.Combine(folder, "recipe.yaml");
        (int Line, string Key, string Text)[] expected =
        [
            (11, "rollout.temperatur", "did you mean 'temperature'?"),
            (3, "model.path", "no such folder"),
            (4, "model.template", "neither a built-in template"),
            (6, "data.train", "not found"),
            (7, "data.evaluation", "the file is empty"),
            (10, "rewards.1", "no reward 'Mine'"),
            (13, "workers.device", "found 'gpu7'"),
            (14, "workers.port", "is taken"),
        ];
        foreach (var (line, key, text) in expected)
            Assert.Contains(
                problems,
                p => p.Origin == $"{file}:{line}" && p.Key == key && p.Message.Contains(text, StringComparison.Ordinal)
            );
        Assert.Equal(expected.Length, problems.Count);
    }

    [Theory]
    [InlineData("rollout.max_new_tokens=125", "rollout.max_new_tokens", "It is the longest of")]
    [InlineData("workers.kv_cache_mib=0", null, "")]
    [InlineData("model.max_context=100000", null, "")]
    [InlineData("workers.block_size=10", "workers.block_size", "a multiple of 16")]
    [InlineData("workers.max_sequences=5000", "workers.max_batched_tokens", "at least MaxSequences")]
    [InlineData("data.evaluation.seed=1", null, "")]
    [InlineData("data.evaluation={generator: arithmetic, count: 100}", "data.train", "nothing is left to train on")]
    [InlineData("rewards.0.file=nowhere.cs", "rewards.0", "reward file not found")]
    [InlineData("workers.placement=colocated", "workers.placement", "the trainer computes on cpu")]
    public void Mistakes_that_files_show_are_of_the_key_to_change(string setting, string? key, string text)
    {
        if (key is null)
        {
            Plan(Good, setting, "training.tokens_per_micro_batch=100000");
            return;
        }
        var problem = Assert.Single(Assert.Throws<RecipeException>(() => Plan(Good, setting)).Problems);
        Assert.Equal(key, problem.Key);
        Assert.Contains(text, problem.Message);
    }

    [Fact]
    public void Warm_up_that_is_longer_than_the_run_is_shortened_and_the_log_has_it()
    {
        Assert.Contains("warm-up 2", Plan(Good, "training.steps=5", "optimizer.warmup_steps=5"));
        Assert.Contains(
            log,
            line => line.Contains("a warm-up of 5 steps does not end in 5; the first 2 are the warm-up")
        );
    }

    [Fact]
    public void Mistake_of_a_recipe_made_in_code_has_its_key()
    {
        var recipe = RecipeFile.Parse<TrainRecipe>(Good, "r.yaml") with { Name = "other" };
        recipe = recipe with { Model = recipe.Model with { Path = "nowhere" } };
        var options = new ExperimentOptions(folder, ExistingRun.Refuse, new(_ => { }, _ => { }, log.Add));
        var error = Assert.Throws<RecipeException>(() =>
            Experiment.StartAsync(recipe, options, TestContext.Current.CancellationToken).GetAwaiter().GetResult()
        );
        Assert.Equal("model.path", Assert.Single(error.Problems).Key);
        Assert.Equal("r.yaml:2", error.Problems[0].Origin);
    }
}
