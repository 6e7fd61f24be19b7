using System.CommandLine;
using SimpleR1.Training;

namespace SimpleR1.Commands;

internal static class TrainCommand
{
    public static Command Create()
    {
        var recipe = new Argument<string>("recipe") { Description = "A recipe file (docs/recipes.md lists every key)" };
        var set = new Option<string[]>("--set") { Description = "Override a value: --set optimizer.learning_rate=1e-6 (repeatable)" };
        var resume = new Option<bool>("--resume") { Description = "Go on from the run's last checkpoint" };
        var overwrite = new Option<bool>("--overwrite") { Description = "Replace a run of the same name" };
        var runs = new Option<string>("--runs") { Description = "Folder for results", DefaultValueFactory = _ => "runs" };
        var command = new Command("train", "Reinforcement learning: sample, score, update, send the weights to the workers, repeat") { recipe, set, resume, overwrite, runs };
        command.SetAction((parse, _) => CommandErrors.RunAsync(async () =>
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
            await using var experiment = await Experiment.StartAsync(loaded, new(parse.GetValue(runs)!, existing, events), interrupts.Token);
            try
            {
                var outcome = await R1Zero.RunAsync(experiment, interrupts.Token);
                console.Outcome(outcome);
                if (outcome.Interrupted) console.Say($"stopped after step {outcome.Step} and saved; go on with: {ResumeCommand(parse)}");
            }
            catch (Exception failure)
            {
                console.Say(await RescueAsync(experiment, failure) is { } saved ? $"saved after the last whole step: {saved}\nafter a repair go on with: {ResumeCommand(parse)}" : $"the last checkpoint is as it was; after a repair go on with: {ResumeCommand(parse)}");
                throw;
            }
            return 0;
        }));
        return command;
    }

    /// <summary>A failure costs one step, where the disk still takes a checkpoint.</summary>
    private static async Task<string?> RescueAsync(Experiment experiment, Exception failure)
    {
        if (failure is IOException) return null; // the disk itself, as likely as not
        try { return await experiment.RescueAsync(); }
        catch (Exception e)
        {
            Console.Error.WriteLine($"error: after a failure the run could not be saved: {e.Message}");
            return null;
        }
    }

    private static string ResumeCommand(ParseResult parse) =>
        string.Join(' ', parse.Tokens.Select(t => t.Value).Where(t => t is not ("--resume" or "--overwrite")).Select(t => t.AsSpan().ContainsAny(" '\"{}[]<>*?$&;|()\\") ? $"'{t.Replace("'", "'\\''")}'" : t).Prepend("simple-r1").Append("--resume"));
}
