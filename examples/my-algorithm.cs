#:project ../src/SimpleR1.Training/SimpleR1.Training.csproj
#:property PublishAot=false

// An algorithm of one's own, in one file:   dotnet run -c Release examples/my-algorithm.cs -- recipes/quickstart.yaml
// An algorithm is two functions: a group's rewards → advantages, and per-token log-probs → loss. The loop stays the project's own.
using SimpleR1.Cluster.Worker;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cpu;
using SimpleR1.Training;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using static TorchSharp.torch;

NativeMemoryTuning.Apply();
if (await WorkerProcess.RunIfAskedAsync(args) is { } exitCode)
    return exitCode; // this program is its own worker
if (args is not [var path, .. var overrides])
    throw new ArgumentException("usage: my-algorithm RECIPE [KEY=VALUE ...]");

var events = new ExperimentEvents(
    Step: r =>
        Console.WriteLine(
            $"step {r.Step}/{r.Steps}  reward {r.Reward:F3}  accuracy {r.Accuracy:P1}  capped {r.Details["capped"]:P1}  {r.StepSeconds:F2} s"
        ),
    Evaluation: e => Console.WriteLine($"evaluation after step {e.Step}: {e.Accuracy:P1} of {e.Answers.Count}"),
    Log: Console.WriteLine
);
var recipe = RecipeFile.Load<TrainRecipe>(path, overrides) with { Name = "my-algorithm" };
await using var e = await Experiment.StartAsync(
    recipe,
    new("runs", ExistingRun.Overwrite, events),
    CancellationToken.None
);
e.Algorithm = Rloo.Create();
await R1Zero.RunAsync(e, CancellationToken.None);
return 0;

/// <summary>REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, "Back to Basics"): no clipping, no division by a deviation.</summary>
internal static class Rloo
{
    /// <param name="ratioCap">Tokens made by other weights than the current ones count by p / old p, at most this. Matters with several updates a step.</param>
    public static Algorithm Create(double ratioCap = 2) =>
        new(
            Advantages: group =>
            {
                double sum = group.Sum(r => r.Reward);
                double Others(Rollout r) => group.Count > 1 ? (sum - r.Reward) / (group.Count - 1) : 0; // what the other samples earned, on average
                return [.. group.Select(r => new[] { (float)(r.Reward - Others(r)) })]; // one value for all tokens of a sample
            },
            Loss: t =>
            {
                var ratio = (t.LogProbs.detach() - t.OldLogProbs).exp(); // [tokens]
                var loss = -(ratio.clamp_max(ratioCap) * t.Advantages * t.LogProbs * t.Weights).sum();
                return (loss, new() { ["capped"] = (ratio.gt(ratioCap).to(float32) * t.Weights).sum() }); // a sum that the metrics show
            }
        );
}
