using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using SimpleR1.Training.Planning;
using SimpleR1.Training.Supervised;

namespace SimpleR1.Commands.Training;

internal static class SftCommand
{
    public static Command Create()
    {
        var command = new Command("sft", "Train on text: pretrain a tiny base model, or a cold start");
        var options = new RunOptions(
            command,
            "An sft recipe (docs/recipes.md lists every key)",
            "training.steps=100",
            "Replace a run of the same name when the new one has written its first step, and the output after the last"
        );
        command.SetAction(
            (parse, _) =>
            {
                string? advice = null;
                var run = () => Task.FromResult(Run(options, parse, text => advice = text));
                return CommandErrors.RunAsync(run, () => advice);
            }
        );
        return command;
    }

    /// <param name="advise">Takes what to do after a failure.</param>
    private static int Run(RunOptions options, ParseResult parse, Action<string> advise)
    {
        string path = options.Path(parse);
        string[] overrides = options.Overrides(parse);
        var existing = options.Existing(parse);
        if (options.IsDryRun(parse))
        {
            var silent = new SftOptions(options.Runs(parse), existing, _ => { }, Console.WriteLine);
            Console.Write(SftPlan.Describe(path, overrides, silent));
            return 0;
        }

        var console = new ConsoleReport();
        using var interrupts = new Interrupts("finishing this step, then saving", console.Log);
        int steps = 0;
        void TakeStep(SftStep step)
        {
            steps = step.Step;
            console.Step(step);
        }

        try
        {
            var outcome = Sft.Run(
                path,
                overrides,
                new(options.Runs(parse), existing, TakeStep, console.Log),
                interrupts.Token
            );
            console.Outcome(outcome);
            if (!outcome.Interrupted)
                return 0;
            console.Log($"stopped after step {outcome.Step} and saved; continue with: {ResumeCommand.For(parse)}");
            return Interrupts.ExitCode;
        }
        catch (Exception) when (steps > 0)
        {
            advise(
                "Checkpoints written before are intact. When the cause is removed, continue with: "
                    + ResumeCommand.For(parse)
            );
            throw;
        }
        finally
        {
            console.End();
        }
    }
}
