using System.Text.Json;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Fingerprints;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

/// <summary>What changes a fingerprint, and what a resumed run makes of it.</summary>
public sealed class FingerprintTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-fingerprints-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private static string InRepository(params string[] path) => Path.Combine([SharedData.RepositoryRoot, .. path]);

    private static (TrainRecipe Recipe, ExperimentInput Input) Load(params string[] overrides)
    {
        string[] small = ["data.train.count=30", "data.evaluation.count=6", .. overrides];
        var recipe = RecipeFile.Load<TrainRecipe>(
            InRepository("recipes", "quickstart.yaml"),
            ["model.path=" + InRepository("recipes", "tiny-base"), .. small]
        );
        var events = new ExperimentEvents(_ => { }, _ => { }, _ => { });
        var options = new ExperimentOptions(Path.GetTempPath(), ExistingRun.Overwrite, events);
        return (recipe, ExperimentInput.Load(CheckedRecipe<TrainRecipe>.Of(recipe), options));
    }

    private static Fingerprint OfEvaluation(params string[] overrides)
    {
        var (recipe, input) = Load(overrides);
        return InputFingerprint.OfEvaluation(recipe, input);
    }

    private static Fingerprint OfTraining(params string[] overrides)
    {
        var (recipe, input) = Load(overrides);
        return InputFingerprint.OfTraining(recipe, input);
    }

    [Theory]
    [InlineData("problems", "data.evaluation.seed=3")]
    [InlineData("problems", "data.evaluation.count=7")]
    [InlineData("problems", "data.evaluation.shuffle=true")]
    [InlineData("template", "model.template=\"Q: {question}\\nA: \"")]
    [InlineData("max_new_tokens", "evaluation.max_new_tokens=40")]
    [InlineData("samples", "evaluation.samples=4")]
    [InlineData("sampling", "evaluation.temperature=0.5")]
    [InlineData("sampling", "evaluation.top_p=0.9")]
    [InlineData("sampling", "rollout.stop=[\"</answer>\"]")]
    [InlineData("rewards", "rewards.1.weight=0.3")]
    [InlineData("rewards", "rewards.0.accept_last_number=true")]
    [InlineData("seed", "seed=2")]
    public void Evaluation_is_another_one_when_what_its_answers_follow_from_changes(string name, string change) =>
        Assert.Equal([name], OfEvaluation().Differences(OfEvaluation(change)));

    [Theory]
    [InlineData("training.steps=7")]
    [InlineData("optimizer.learning_rate=1")]
    [InlineData("data.train.seed=9")]
    [InlineData("workers.count=1")]
    [InlineData("evaluation.pass_at=[1]")]
    [InlineData("name=other")]
    public void Evaluation_stays_the_same_when_something_else_changes(string change) =>
        Assert.Equal(OfEvaluation(), OfEvaluation(change));

    [Fact]
    public void Greedy_evaluation_does_not_depend_on_the_seed_or_on_filters() =>
        Assert.Equal(
            OfEvaluation("evaluation.temperature=0"),
            OfEvaluation("evaluation.temperature=0", "seed=5", "evaluation.top_k=3")
        );

    [Fact]
    public void Tokenizer_and_reward_file_count_by_their_contents()
    {
        string model = Path.Combine(folder, "model");
        Directory.CreateDirectory(model);
        foreach (string file in Directory.GetFiles(InRepository("recipes", "tiny-base")))
            File.Copy(file, Path.Combine(model, Path.GetFileName(file)));
        string rewards = Path.Combine(folder, "Mine.cs");
        File.WriteAllText(rewards, "public static class A { public static double Mine(RewardInput input) => 1; }");
        string[] recipe = ["model.path=" + model, $"rewards=[{{name: Mine, file: {rewards}}}]"];
        var before = OfEvaluation(recipe);
        Assert.Equal(before, OfEvaluation(recipe));

        File.AppendAllText(Path.Combine(model, "tokenizer.json"), "\n");
        File.AppendAllText(rewards, " // better");
        Assert.Equal(["rewards", "tokenizer"], before.Differences(OfEvaluation(recipe)));
    }

    [Fact]
    public void Hash_keeps_texts_apart_and_json_keeps_the_fingerprint()
    {
        Assert.NotEqual(Fingerprint.Hash(["ab", "c"]), Fingerprint.Hash(["a", "bc"]));
        Assert.NotEqual(Fingerprint.Hash(["a", "b"]), Fingerprint.Hash(["b", "a"]));
        var fingerprint = OfTraining();
        string json = JsonSerializer.Serialize(fingerprint);
        Assert.Contains("\"training.steps\":\"200\"", json);
        Assert.Equal(fingerprint, JsonSerializer.Deserialize<Fingerprint>(json));
    }

    private (bool OtherProblems, List<string> Lines) Resume(Fingerprint? then, Fingerprint now, bool allowed)
    {
        var lines = new List<string>();
        var state = new RunState(5, 5, 160, 1, 2) { Fingerprint = then };
        return (ResumedData.Check(state, now, Path.Combine(folder, "step-000005"), allowed, lines.Add), lines);
    }

    [Fact]
    public void Resumed_run_names_each_change_and_goes_on_when_the_data_are_the_same()
    {
        var (other, lines) = Resume(
            OfTraining(),
            OfTraining("training.steps=300", "optimizer.learning_rate=1e-5", "rollout.samples_per_prompt=4"),
            allowed: false
        );
        Assert.False(other);
        Assert.Equal(
            [
                "changed since the checkpoint: optimizer.learning_rate: 0.0003 → 1E-05",
                "changed since the checkpoint: rollout.samples_per_prompt: 8 → 4",
                "changed since the checkpoint: training.steps: 200 → 300",
            ],
            lines
        );
        Assert.Empty(Resume(OfTraining(), OfTraining(), allowed: false).Lines);
    }

    [Theory]
    [InlineData("data.train.seed=7", "problems", true)]
    [InlineData("data.train.count=31", "problems", true)]
    [InlineData("data.train.shuffle=true", "problems", true)]
    [InlineData("model.template=plain {question}", "template", false)]
    public void Resumed_run_with_other_data_needs_to_be_allowed(string change, string named, bool fromTheirBeginning)
    {
        var (then, now) = (OfTraining(), OfTraining(change));
        string message = Assert.Throws<InvalidDataException>(() => Resume(then, now, allowed: false)).Message;
        Assert.Contains($"{named} changed", message);
        Assert.Contains("--allow-changed-data", message);
        var (other, lines) = Resume(then, now, allowed: true);
        Assert.Equal(fromTheirBeginning, other);
        Assert.InRange(lines.Count, 2, 3); // the recipe's key and its effect, another number of problems on the order too
    }

    [Fact]
    public void State_of_an_older_program_resumes_with_a_remark()
    {
        string path = Path.Combine(folder, RunState.FileName);
        File.WriteAllText(
            path,
            """{"Step":5,"OptimizerSteps":5,"DataPosition":160,"Seed":1,"StartHash":2,"Carried":[]}"""
        );
        var old = RunState.Read(folder);
        Assert.Equal(160, old.DataPosition);
        var (other, lines) = Resume(old.Fingerprint, OfTraining(), allowed: false);
        Assert.False(other);
        Assert.Contains("has no fingerprint", Assert.Single(lines));
        Assert.Equal(5, RunState.StepOf(folder));
        Assert.Equal(0, RunState.StepOf(InRepository("recipes", "tiny-base")));
    }

    [Fact]
    public void Recipe_of_every_session_is_kept()
    {
        var (recipe, _) = Load();
        var run = RunFolder.Open(folder, "run");
        File.WriteAllText(run.Recipe, "name: run # of a program that kept only the last\n");
        run.WriteRecipe(recipe with { Name = "second" }, 10);
        run.WriteRecipe(recipe with { Name = "third" }, 20);
        Assert.Equal(
            ["0001.yaml", "0002.yaml", "0003.yaml"],
            Directory.GetFiles(run.Recipes).Select(Path.GetFileName).Order(StringComparer.Ordinal)
        );
        Assert.StartsWith("name: run #", File.ReadAllText(Path.Combine(run.Recipes, "0001.yaml")));
        Assert.StartsWith("# Session 3, after step 20.", File.ReadAllText(run.Recipe));
        Assert.Equal("second", RecipeFile.Load<TrainRecipe>(Path.Combine(run.Recipes, "0002.yaml")).Name);
        Assert.Equal("third", RecipeFile.Load<TrainRecipe>(run.Recipe).Name);
    }
}
