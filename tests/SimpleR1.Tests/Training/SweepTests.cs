using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Sweeps;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class SweepTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-sweep-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string Recipe()
    {
        string path = Path.Combine(folder, "r.yaml");
        string model = Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base");
        File.WriteAllText(
            path,
            $$"""
            name: base
            model: {path: {{model}}, max_context: 128, template: "Q: {question}"}
            data: {train: {generator: arithmetic-steps, count: 20} }
            rollout: {max_new_tokens: 48}
            rewards: [{name: accuracy}]
            training: {steps: 3}
            """
        );
        return path;
    }

    private ExperimentOptions Options(ExistingRun existing = ExistingRun.Refuse) =>
        new(folder, existing, new(_ => { }, _ => { }, _ => { }));

    [Theory]
    [InlineData("a=1,2", "1", "2")]
    [InlineData("a= 1e-5 , 2", "1e-5", "2")]
    [InlineData("a=[1, 2],[3]", "[1, 2]", "[3]")]
    [InlineData("""rollout.stop=["a","b"],["c,]"],[]""", """["a","b"]""", """["c,]"]""", "[]")]
    [InlineData("a={x: 1, y: 2},{x: 3}", "{x: 1, y: 2}", "{x: 3}")]
    [InlineData("a=don't,won't", "don't", "won't")]
    [InlineData("a=\"x\\\",y\",z", "\"x\\\",y\"", "z")]
    [InlineData("a=b=c,d", "b=c", "d")]
    public void Values_are_split_at_commas_that_nothing_encloses(string text, params string[] values) =>
        Assert.Equal(values, SweepKey.Parse(text).Values);

    [Theory]
    [InlineData("seed", "expected key.path=value,value")]
    [InlineData("=1,2", "expected key.path=value,value")]
    [InlineData("seed=", "a value is empty")]
    [InlineData("seed=1,,2", "a value is empty")]
    [InlineData("seed=1,1", "a value is given twice")]
    [InlineData("name=a,b", "named by its other keys")]
    public void Wrong_sweeps_are_refused(string text, string message) =>
        Assert.Contains(message, Assert.Throws<ArgumentException>(() => SweepKey.Parse(text)).Message);

    [Fact]
    public void Runs_are_all_combinations_named_by_their_keys_and_values()
    {
        var grid = SweepGrid.Read(Recipe(), ["name=gsm8k"], ["optimizer.learning_rate=5e-06,1e-5", "seed=1,2"]);
        Assert.Equal("gsm8k", grid.Name);
        Assert.Equal(
            [
                "gsm8k-learning_rate=5e-06-seed=1",
                "gsm8k-learning_rate=5e-06-seed=2",
                "gsm8k-learning_rate=1e-5-seed=1",
                "gsm8k-learning_rate=1e-5-seed=2",
            ],
            grid.Runs.Select(r => r.Name)
        );
        var recipe = RecipeFile.Load<TrainRecipe>(grid.Recipe, grid.Runs[1].Overrides);
        Assert.Equal(("gsm8k-learning_rate=5e-06-seed=2", 2ul), (recipe.Name, recipe.Seed));
        Assert.Equal(5e-6, recipe.Optimizer.LearningRate);
    }

    [Fact]
    public void Names_are_folders_and_keys_that_clash_are_in_full()
    {
        var paths = SweepGrid.Read(Recipe(), [], ["model.path=models/a,/b"]);
        Assert.Equal(["base-path=models_a", "base-path=_b"], paths.Runs.Select(r => r.Name));
        var clash = SweepGrid.Read(Recipe(), [], ["rollout.temperature=1", "evaluation.temperature=0"]);
        Assert.Equal("base-rollout.temperature=1-evaluation.temperature=0", Assert.Single(clash.Runs).Name);
        Assert.Contains("twice", Refusal("seed=1", "seed=2"));
        Assert.Contains("two runs would have the name", Refusal("model.path=a/b,a\\b"));
        Assert.Contains("too long", Refusal($"model.template=\"{new string('x', 300)}\""));

        string Refusal(params string[] sweeps) =>
            Assert.Throws<ArgumentException>(() => SweepGrid.Read(Recipe(), [], sweeps)).Message;
    }

    [Fact]
    public void Problems_of_all_runs_are_reported_together_each_once()
    {
        Directory.CreateDirectory(Path.Combine(folder, "base-steps=5"));
        File.WriteAllText(Path.Combine(folder, "base-steps=5", "recipe.yaml"), "name: x\n");
        string[] overrides = ["rewards=[{name: accuarcy}]"];
        var grid = SweepGrid.Read(Recipe(), overrides, ["training.steps=-1,5,many"]);
        string[] problems =
        [
            .. Assert.Throws<RecipeException>(() => grid.Check(Options())).Problems.Select(p => p.ToString()),
        ];
        Assert.Equal(4, problems.Length);
        Assert.Single(problems, p => p.Contains("did you mean 'accuracy'?"));
        Assert.Single(problems, p => p.StartsWith("--set training.steps=-1: training.steps:"));
        Assert.Single(problems, p => p.StartsWith("--set training.steps=many: training.steps:"));
        Assert.Single(problems, p => p.Contains("a run of this name exists"));
    }

    [Fact]
    public void Resumed_sweep_starts_what_has_not_begun_and_leaves_out_what_is_finished()
    {
        var grid = SweepGrid.Read(Recipe(), [], ["seed=1,2,3"]);
        Begin(grid.Runs[0].Name, steps: 3);
        Begin(grid.Runs[1].Name, steps: 2);
        Assert.Equal([null, ExistingRun.Resume, ExistingRun.Refuse], Starts(ExistingRun.Resume));
        Assert.Equal(
            [ExistingRun.Overwrite, ExistingRun.Overwrite, ExistingRun.Overwrite],
            Starts(ExistingRun.Overwrite)
        );
        Assert.Contains("2 problems", Assert.Throws<RecipeException>(() => grid.Check(Options())).Message);
        grid.Check(Options(ExistingRun.Resume));

        // With more steps nothing is finished
        grid = SweepGrid.Read(Recipe(), ["training.steps=4"], ["seed=1,2,3"]);
        Assert.Equal([ExistingRun.Resume, ExistingRun.Resume, ExistingRun.Refuse], Starts(ExistingRun.Resume));

        IEnumerable<ExistingRun?> Starts(ExistingRun asked) =>
            grid.Runs.Select(r => r.StartOf(grid.Recipe, folder, asked)).ToArray();
    }

    private void Begin(string name, int steps)
    {
        var run = RunFolder.Open(folder, name);
        run.WriteRecipe(RecipeFile.Load<TrainRecipe>(Recipe(), [$"name={name}"]), 0);
        Directory.CreateDirectory(Checkpoints.Folder(run, steps));
        using var metrics = new MetricsWriter(run);
        for (int step = 1; step <= steps; step++)
            metrics.Write(step, [new("reward", 1)]);
    }
}
