using System.CommandLine;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;

namespace SimpleR1.Commands;

internal static class TrainCommand
{
    public static Command Create()
    {
        var recipe = new Argument<string>("recipe") { Description = "A recipe file (docs/recipes.md lists every key)" };
        var set = new Option<string[]>("--set")
        {
            Description = "Override a value: --set optimizer.learning_rate=1e-6 (repeatable)",
        };
        var resume = new Option<bool>("--resume") { Description = "Go on from the run's last checkpoint" };
        var overwrite = new Option<bool>("--overwrite") { Description = "Replace a run of the same name" };
        var runs = new Option<string>("--runs")
        {
            Description = "Folder for results",
            DefaultValueFactory = _ => "runs",
        };
        var join = ClusterOption.Join(required: false);
        var key = ClusterOption.Key();
        var command = new Command(
            "train",
            "Reinforcement learning: sample, score, update, send the weights to the workers, repeat"
        )
        {
            recipe,
            set,
            resume,
            overwrite,
            runs,
            join,
            key,
        };
        command.SetAction(
            (parse, _) =>
            {
                string? advice = null;
                return CommandErrors.RunAsync(
                    async () =>
                    {
                        var loaded = RecipeFile.Load<TrainRecipe>(parse.GetValue(recipe)!, parse.GetValue(set));
                        var existing = (parse.GetValue(resume), parse.GetValue(overwrite)) switch
                        {
                            (true, true) => throw new ArgumentException("--resume and --overwrite exclude each other"),
                            (true, _) => ExistingRun.Resume,
                            (_, true) => ExistingRun.Overwrite,
                            _ => ExistingRun.Refuse,
                        };
                        var console = new ConsoleReport();
                        using var interrupts = new Interrupts("finishing this step, then saving", console.Say);
                        var events = new ExperimentEvents(console.Step, console.Evaluation, console.Say);
                        var serverKey =
                            loaded.Workers.Servers.Count > 0 ? ClusterOption.Read(parse.GetValue(key)) : null;
                        await using var experiment = await Experiment.StartAsync(
                            loaded,
                            new(
                                parse.GetValue(runs)!,
                                existing,
                                events,
                                parse.GetValue(join) is null ? null : ClusterOption.Head(parse, join, key),
                                serverKey
                            ),
                            interrupts.Token
                        );
                        try
                        {
                            var outcome = await R1Zero.RunAsync(experiment, interrupts.Token);
                            console.Outcome(outcome);
                            if (outcome.Interrupted)
                                console.Say(
                                    $"stopped after step {outcome.Step} and saved; go on with: {ResumeCommand(parse)}"
                                );
                        }
                        catch (Exception failure)
                        {
                            advice =
                                $"{await RescueAsync(experiment, failure)} After a repair go on with: {ResumeCommand(parse)}";
                            throw;
                        }
                        return 0;
                    },
                    () => advice
                );
            }
        );
        return command;
    }

    /// <summary>A failure costs one step, where the disk still takes a checkpoint.</summary>
    private static async Task<string> RescueAsync(Experiment experiment, Exception failure)
    {
        if (experiment.Step == 0)
            return "No step was finished.";
        try
        {
            // Where it was a file that failed, the disk is not to be trusted with another checkpoint.
            return failure is not IOException && await experiment.RescueAsync() is { } saved
                ? $"The last whole step was saved: {saved}."
                : "Checkpoints written before are intact.";
        }
        catch (Exception e)
        {
            return $"The last whole step could not be saved ({e.Message}); checkpoints written before are intact.";
        }
    }

    private static string ResumeCommand(ParseResult parse) => // without the key: it is a secret
        string.Join(
            ' ',
            parse
                .Tokens.Select(t => t.Value)
                .Where(
                    (t, i) =>
                        t is not ("--resume" or "--overwrite" or "--key")
                        && (i == 0 || parse.Tokens[i - 1].Value != "--key")
                )
                .Select(t => t.AsSpan().ContainsAny(" '\"{}[]<>*?$&;|()\\") ? $"'{t.Replace("'", "'\\''")}'" : t)
                .Prepend("simple-r1")
                .Append("--resume")
        );
}
