using System.Text.Json.Nodes;
using SimpleR1.Tests.Training.Recipes;
using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>
/// The recipe of GSM8K with a tiny model on a CPU, by the real program. It learns nothing: it runs, logs, evaluates two sets,
/// stops and resumes.
/// </summary>
public sealed class GsmRecipeTests : IDisposable
{
    private const string Recipe = "recipes/gsm8k-qwen2.5-coder-0.5b-instruct.yaml";

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-gsm-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string In(params string[] path) => Path.Combine([folder, .. path]);

    private string[] Train(string model, string train, string test, params string[] more) =>
        [
            "train",
            Recipe,
            "--runs",
            folder,
            .. TrainRun.Set(
                "name=gsm",
                $"model.path={model}",
                $"data.train.path={train}",
                $"data.evaluation=[{{path: {test}, name: test}}, {{path: {TinyRecipes.RowsOf("svamp.jsonl")}}}]",
                "data.evaluation.sources.0.take=4",
                "rollout.prompts_per_step=2",
                "rollout.samples_per_prompt=4",
                "rollout.max_new_tokens=12",
                "training.evaluate_every=2",
                "training.checkpoint_every=2",
                "training.device=cpu",
                "workers.count=1",
                "workers.kv_cache_mib=16"
            ),
            .. more,
        ];

    private static async Task<string> SucceedsAsync(params string[] command)
    {
        var (code, output, errors) = await ProgramRun.RunAsync(command);
        Assert.True(code == 0 && errors == "", output + errors);
        return output;
    }

    private async Task RunsLogsEvaluatesAndResumesAsync(string[] command)
    {
        string output = await SucceedsAsync([.. command, "--set", "training.steps=3"]);
        Assert.Contains("evaluation after step 0: ", output);
        Assert.Matches(@"\n  test: \d of 4 correct, ", output);
        Assert.Matches(@"\n  svamp: \d of 2 correct, ", output);
        output = await SucceedsAsync([.. command, "--resume", "--set", "training.steps=5"]);
        Assert.Contains("resumed after step 3", output);

        var rows = JsonLines.Read(In("gsm", "metrics.jsonl")).ToArray();
        Assert.Equal([1, 2, 3, 4, 5], rows.Where(r => r["loss"] is not null).Select(r => (int)r["step"]!));
        var evaluations = rows.Where(r => r["evaluation_accuracy"] is not null).ToArray();
        Assert.Equal([0, 2, 3, 4, 5], evaluations.Select(r => (int)r["step"]!));
        Assert.All(evaluations, r => Assert.NotNull(r["evaluation_accuracy/svamp_low"]));
        Assert.All(evaluations, r => Assert.InRange((double)r["evaluation_answered"]!, 0, 1));
        var last = File.ReadLines(In("gsm", "evaluations", "step-000005.jsonl")).Select(l => JsonNode.Parse(l)!);
        Assert.Equal(["test", "test", "test", "test", "svamp", "svamp"], last.Select(a => (string)a["source"]!));
    }

    [Fact]
    public Task Recipe_runs_with_a_few_problems()
    {
        TinyModels.WriteFolder(In("model"));
        return RunsLogsEvaluatesAndResumesAsync(
            Train(In("model"), TinyRecipes.RowsOf("gsm8k-train.jsonl"), TinyRecipes.RowsOf("gsm8k-test.jsonl"))
        );
    }

    [Fact]
    public Task Recipe_runs_with_TinyStories_on_GSM8K() =>
        RunsLogsEvaluatesAndResumesAsync(
            Train(
                SharedData.Require("models/TinyStories-656K"),
                SharedData.Require("gsm8k/train.jsonl"),
                SharedData.Require("gsm8k/test.jsonl"),
                TrainRun.Set("model.system=", "model.template=Q: {question}\nA:", "data.train.take=64")
            )
        );
}
