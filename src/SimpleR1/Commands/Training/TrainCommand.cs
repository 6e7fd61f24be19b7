using System.CommandLine;
using SimpleR1.Cluster;
using SimpleR1.Commands.Options;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Commands.Training;

internal static class TrainCommand
{
    public static Command Create()
    {
        var command = new Command(
            "train",
            "Reinforcement learning: sample, score, update, send the weights to the workers, repeat"
        );
        var options = new TrainOptions(command);
        command.SetAction(
            (parse, _) =>
            {
                string? advice = null;
                return CommandErrors.RunAsync(() => RunAsync(options, parse, text => advice = text), () => advice);
            }
        );
        return command;
    }

    /// <param name="advise">Takes what to do after a failure.</param>
    private static async Task<int> RunAsync(TrainOptions options, ParseResult parse, Action<string> advise)
    {
        var recipe = options.Recipe(parse);
        var existing = options.Existing(parse);
        var console = new ConsoleReport();
        using var interrupts = new Interrupts("finishing this step, then saving", console.Log);
        var events = new ExperimentEvents(console.Step, console.Evaluation, console.Log);
        await using var experiment = await Experiment.StartAsync(
            recipe,
            new(
                options.Runs(parse),
                existing,
                events,
                options.Head(parse),
                recipe.Workers.Servers.Count > 0 ? options.Key(parse) : null
            )
            {
                AllowChangedData = options.AllowsChangedData(parse),
            },
            interrupts.Token
        );

        try
        {
            var outcome = await R1Zero.RunAsync(experiment, interrupts.Token);
            console.Outcome(outcome);
            if (outcome.Interrupted)
                console.Log($"stopped after step {outcome.Step} and saved; continue with: {ResumeCommand.For(parse)}");
            return 0;
        }
        catch (Exception failure)
        {
            string rescue = await RescueAsync(experiment, failure);
            advise($"{rescue} When the cause is removed, continue with: {ResumeCommand.For(parse)}");
            throw;
        }
    }

    /// <summary>
    /// Saves the last complete step, so that a failure costs one step, if the disk still takes a checkpoint.
    /// </summary>
    /// <returns>What was saved.</returns>
    private static async Task<string> RescueAsync(Experiment experiment, Exception failure)
    {
        if (experiment.Step == 0)
            return "No step was finished.";
        try
        {
            // After a failure to write a file, the disk cannot be trusted with another checkpoint.
            return failure is not IOException && await experiment.RescueAsync() is { } saved
                ? $"The last whole step was saved: {saved}."
                : "Checkpoints written before are intact.";
        }
        catch (Exception e)
        {
            return $"The last whole step could not be saved ({e.Message}); checkpoints written before are intact.";
        }
    }

    private sealed class TrainOptions(Command command)
    {
        private readonly RecipeOptions recipe = new(
            command,
            "A recipe file (docs/recipes.md lists every key)",
            "optimizer.learning_rate=1e-6"
        );
        private readonly Option<bool> resume = command
            .AddOption<bool>("--resume")
            .Describe("Continue from the run's last checkpoint");
        private readonly Option<bool> overwrite = command
            .AddOption<bool>("--overwrite")
            .Describe("Replace a run of the same name");
        private readonly Option<bool> allowChangedData = command
            .AddOption<bool>("--allow-changed-data")
            .Describe(
                "Resume although the problems, the template or the tokenizer changed; new problems start at the first"
            );
        private readonly Option<string> runs = command.AddDefault("--runs", "runs").Describe("Folder for results");
        private readonly JoinOptions join = new(command, required: false);

        public TrainRecipe Recipe(ParseResult parse) =>
            RecipeFile.Load<TrainRecipe>(recipe.Path(parse), recipe.Overrides(parse));

        public ExistingRun Existing(ParseResult parse) =>
            (parse.GetValue(resume), parse.GetValue(overwrite)) switch
            {
                (true, true) => throw new ArgumentException("--resume and --overwrite exclude each other"),
                (true, _) => ExistingRun.Resume,
                (_, true) => ExistingRun.Overwrite,
                _ => ExistingRun.Refuse,
            };

        public bool AllowsChangedData(ParseResult parse)
        {
            bool allows = parse.GetValue(allowChangedData);
            if (allows && !parse.GetValue(resume))
                throw new ArgumentException("--allow-changed-data is for --resume");
            return allows;
        }

        public string Runs(ParseResult parse) => parse.GetValue(runs)!;

        public HeadAddress? Head(ParseResult parse) => join.HeadOrNull(parse);

        public ClusterKey? Key(ParseResult parse) => join.Key.Read(parse);
    }
}
