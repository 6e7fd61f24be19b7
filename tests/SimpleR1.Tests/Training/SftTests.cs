using SimpleR1.Models.Checkpoints;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Files;
using SimpleR1.Training.Supervised;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class SftTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-sft-").FullName;
    private readonly List<string> log = [];

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private SftRecipe Recipe(string name) =>
        RecipeFile.Parse<SftRecipe>(
            $$$"""
            name: {{{name}}}
            model: {shape: {tokenizer: {{{SharedData.RepositoryRoot}}}/recipes/tiny-base, hidden_size: 32, layers: 1}}
            data:
              train: {generator: arithmetic-corpus, count: 100}
              evaluation: {generator: arithmetic-corpus, count: 110, skip: 100}
            optimizer: {learning_rate: 1e-3, warmup_steps: 2}
            training: {steps: 6, tokens_per_batch: 512, sequence_length: 128, checkpoint_every: 2, evaluate_every: 3}
            output: {{{folder}}}/model-{{{name}}}
            """,
            "sft.yaml"
        );

    private SftOutcome Run(string name, ExistingRun existing, int stopAfter = int.MaxValue)
    {
        using var stop = new CancellationTokenSource();
        void Step(SftStep step)
        {
            if (step.Step == stopAfter)
                stop.Cancel();
        }
        return Sft.Run(Recipe(name), new(folder, existing, Step, log.Add), stop.Token);
    }

    private static string[] Rows(string run) => Cli.TrainRun.Rows(Path.Combine(run, "metrics.jsonl"));

    [Fact]
    public void Run_that_was_interrupted_and_resumed_is_bit_for_bit_the_run_that_was_not()
    {
        var whole = Run("a", ExistingRun.Refuse);
        Assert.Equal((6, false), (whole.Step, whole.Interrupted));
        var part = Run("b", ExistingRun.Refuse, stopAfter: 3);
        Assert.Equal((3, true), (part.Step, part.Interrupted));
        Assert.False(Directory.Exists(Path.Combine(folder, "model-b"))); // a checkpoint, not the output
        Assert.True(Directory.Exists(Path.Combine(folder, "b", "checkpoints", "step-000003")));

        Assert.False(Run("b", ExistingRun.Resume).Interrupted);
        Assert.Contains(log, line => line.StartsWith("resumed after step 3", StringComparison.Ordinal));
        Assert.Equal(Rows(Path.Combine(folder, "a")), Rows(Path.Combine(folder, "b")));
        Assert.Equal(
            [3, 6],
            JsonLines
                .Read(Path.Combine(folder, "b", "metrics.jsonl"))
                .Where(r => r["held_out_loss"] is not null)
                .Select(r => (int)r["step"]!)
        );
        using var a = Checkpoint.Load(Path.Combine(folder, "model-a"));
        using var b = Checkpoint.Load(Path.Combine(folder, "model-b"));
        Assert.True(a.Flat.Equals(b.Flat));
        Assert.Equal(2, Directory.GetDirectories(Path.Combine(folder, "b", "checkpoints")).Length);
    }

    [Fact]
    public void Output_that_exists_is_refused_and_replaced_only_after_the_last_step()
    {
        string output = Directory.CreateDirectory(Path.Combine(folder, "model-a")).FullName;
        File.WriteAllText(Path.Combine(output, "precious"), "");
        string problem = Assert.Throws<RecipeException>(() => Run("a", ExistingRun.Refuse)).Message;
        Assert.Contains("sft.yaml:8: output: ", problem);
        Assert.Contains("--overwrite", problem);
        Assert.False(Directory.Exists(Path.Combine(folder, "a")));

        Assert.True(Run("a", ExistingRun.Overwrite, stopAfter: 2).Interrupted);
        Assert.True(File.Exists(Path.Combine(output, "precious")));
        Assert.False(Run("a", ExistingRun.Resume).Interrupted); // it was started with the right to replace it
        Assert.False(File.Exists(Path.Combine(output, "precious")));
        Assert.True(File.Exists(Path.Combine(output, "model.safetensors")));
    }
}
