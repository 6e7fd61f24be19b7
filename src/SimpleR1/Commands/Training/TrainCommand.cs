using System.CommandLine;
using SimpleR1.Cluster;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using SimpleR1.Training;
using SimpleR1.Training.Planning;
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
        string path = options.Run.Path(parse);
        string[] overrides = options.Run.Overrides(parse);
        if (options.Run.IsDryRun(parse))
        {
            var silent = new ExperimentEvents(_ => { }, _ => { }, Console.WriteLine);
            Console.Write(TrainPlan.Describe(path, overrides, options.Experiment(parse, silent)));
            return 0;
        }

        var console = new ConsoleReport();
        using var interrupts = new Interrupts("finishing this step, then saving", console.Log);
        var events = new ExperimentEvents(console.Step, console.Evaluation, console.Log)
        {
            Progress = console.Progress,
        };
        await using var experiment = await Experiment.StartAsync(
            path,
            overrides,
            options.Experiment(parse, events),
            interrupts.Token
        );

        try
        {
            var outcome = await R1Zero.RunAsync(experiment, interrupts.Token);
            console.Outcome(outcome);
            if (!outcome.Interrupted)
                return 0;
            console.Log($"stopped after step {outcome.Step} and saved; continue with: {ResumeCommand.For(parse)}");
            return Interrupts.ExitCode;
        }
        catch (Exception failure)
        {
            advise(await AdviseAsync(experiment, failure, ResumeCommand.For(parse)));
            throw;
        }
        finally
        {
            console.End();
        }
    }

    /// <summary>Saves what can be saved after a failure.</summary>
    /// <returns>What was saved, and what to do.</returns>
    private static async Task<string> AdviseAsync(Experiment experiment, Exception failure, string resume)
    {
        if (experiment.Step == 0 && experiment.Run.HasFormer)
            return "No step was finished. When the cause is removed, start again with the same command.";
        string rescue = await RescueAsync(experiment, failure);
        return $"{rescue} When the cause is removed, continue with: {resume}";
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
        private readonly Option<bool> allowChangedData = command
            .AddOption<bool>("--allow-changed-data")
            .Describe(
                "Resume although the problems, the template or the tokenizer changed; new problems start at the first"
            );
        private readonly JoinOptions join = new(command, required: false);

        public RunOptions Run { get; } =
            new(
                command,
                "A recipe file (docs/recipes.md lists every key)",
                "optimizer.learning_rate=1e-6",
                "Replace a run of the same name, when the new one has written its first step"
            );

        public ExperimentOptions Experiment(ParseResult parse, ExperimentEvents events)
        {
            HeadAddress? head = join.HeadOrNull(parse);
            ClusterKey? serverKey = head is null ? join.Key.Read(parse) : null;
            return new(Run.Runs(parse), Run.Existing(parse), events, head, serverKey)
            {
                AllowChangedData = AllowsChangedData(parse),
            };
        }

        private bool AllowsChangedData(ParseResult parse)
        {
            bool allows = parse.GetValue(allowChangedData);
            if (allows && Run.Existing(parse) != ExistingRun.Resume)
                throw new ArgumentException("--allow-changed-data is for --resume");
            return allows;
        }
    }
}
