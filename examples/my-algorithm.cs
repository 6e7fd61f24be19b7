#:project ../src/SimpleR1.Training/SimpleR1.Training.csproj
#:property PublishAot=false

// A custom algorithm in one file:   dotnet run -c Release examples/my-algorithm.cs -- recipes/quickstart.yaml
// An algorithm is two functions: a group's rewards → advantages, and per-token log-probs → loss. The loop is the project's.
using SimpleR1.Training;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using static TorchSharp.torch;

if (await Experiment.RunAsWorkerAsync(args) is { } exitCode)
    return exitCode; // this program is its own worker
if (args is not [var path, .. var overrides])
    throw new ArgumentException("usage: my-algorithm RECIPE [KEY=VALUE ...]");

var events = new ExperimentEvents(
    Step: r => Console.WriteLine($"step {r.Step}/{r.Steps}  reward {r.Reward:F3}  capped {r.Details["capped"]:P1}"),
    Evaluation: e => Console.WriteLine($"evaluation after step {e.Step}: {e.Correct} of {e.Answers.Count} correct"),
    Log: Console.WriteLine
);
var recipe = RecipeFile.Load<TrainRecipe>(path, overrides) with { Name = "my-algorithm" };
var options = new ExperimentOptions("runs", ExistingRun.Overwrite, events);
await using var e = await Experiment.StartAsync(recipe, options, CancellationToken.None);
e.Algorithm = Rloo.Create();
await R1Zero.RunAsync(e, CancellationToken.None);
return 0;

/// <summary>
/// REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, "Back to Basics"): no clipping, no division by a
/// deviation.
/// </summary>
internal static class Rloo
{
    /// <param name="ratioCap">
    /// Tokens that other weights than the current ones sampled count by p / old p, at most this. It matters with several updates a step.
    /// </param>
    public static Algorithm Create(double ratioCap = 2) =>
        new(
            Advantages: group =>
            {
                double sum = group.Sum(r => r.Reward);

                // What the other samples earned, on average
                double Baseline(Rollout r) => group.Count > 1 ? (sum - r.Reward) / (group.Count - 1) : 0;

                // One value for all tokens of a sample
                return [.. group.Select(r => new[] { (float)(r.Reward - Baseline(r)) })];
            },
            Loss: t =>
            {
                var ratio = (t.LogProbs.detach() - t.OldLogProbs).exp(); // [tokens]
                var loss = -(ratio.clamp_max(ratioCap) * t.Advantages * t.LogProbs * t.Weights).sum();
                var capped = (ratio.gt(ratioCap).to(float32) * t.Weights).sum(); // a sum that the metrics show
                return (loss, new() { ["capped"] = capped });
            }
        );
}
