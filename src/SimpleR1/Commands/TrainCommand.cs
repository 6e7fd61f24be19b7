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
            using var interrupts = new Interrupts("finishing this step, then saving");
            var events = new ExperimentEvents(console.Step, console.Evaluation, console.Say);
            await using var experiment = await Experiment.StartAsync(loaded, new(parse.GetValue(runs)!, existing, events), interrupts.Token);
            console.Outcome(await R1Zero.RunAsync(experiment, interrupts.Token));
            return 0;
        }));
        return command;
    }
}
