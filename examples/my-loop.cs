#:project ../src/SimpleR1.Training/SimpleR1.Training.csproj
#:property PublishAot=false

// A custom training loop in one file:   dotnet run -c Release examples/my-loop.cs -- recipes/quickstart.yaml
// The body is R1Zero.RunAsync (src/SimpleR1.Training/R1Zero.cs) with one change. Groups whose samples all earned the
// same teach nothing, because their advantages are 0. This loop drops them before the update, so that no time is
// spent on their tokens (DAPO's filter, without its refill).
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;

if (await Experiment.RunAsWorkerAsync(args) is { } exitCode)
    return exitCode; // this program is its own worker
if (args is not [var path, .. var overrides])
    throw new ArgumentException("usage: my-loop RECIPE [KEY=VALUE ...]");

using var stop = new CancellationTokenSource();
Console.CancelKeyPress += (_, key) =>
{
    key.Cancel = true;
    stop.Cancel();
};
var events = new ExperimentEvents(
    Step: r => Console.WriteLine($"step {r.Step}/{r.Steps}  reward {r.Reward:F3}  trained tokens {r.TrainedTokens}"),
    Evaluation: e => Console.WriteLine($"evaluation after step {e.Step}: {e.Correct} of {e.Answers.Count} correct"),
    Log: Console.WriteLine
);
var recipe = RecipeFile.Load<TrainRecipe>(path, overrides) with { Name = "my-loop" };
await using var e = await Experiment.StartAsync(recipe, new("runs", ExistingRun.Overwrite, events), stop.Token);

await e.PushWeightsAsync();
if (e.Due(recipe.Training.EvaluateEvery))
    await e.EvaluateAsync(stop.Token);
while (e.Step < recipe.Training.Steps && !stop.IsCancellationRequested)
{
    e.BeginStep();
    var rollouts = await e.CollectAsync(e.NextPrompts());

    var useful = rollouts
        .GroupBy(r => r.Group)
        .Where(group => group.Any(r => r.Reward != group.First().Reward))
        .SelectMany(group => group)
        .ToArray();
    var updates = await e.UpdateAsync(useful.Length > 0 ? useful : rollouts); // the change

    e.EndStep(rollouts, updates, await e.PushWeightsAsync());
    if (e.Due(recipe.Training.CheckpointEvery))
        await e.SaveAsync();
    if (e.Due(recipe.Training.EvaluateEvery))
        await e.EvaluateAsync(stop.Token);
}
var outcome = await e.FinishAsync();
Console.WriteLine(string.Join("\n", outcome.Files));
return 0;
