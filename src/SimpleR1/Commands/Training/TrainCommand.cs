using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using SimpleR1.Training;
using SimpleR1.Training.Planning;

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
                if (options.Sweep(parse).Length > 0)
                    return CommandErrors.RunAsync(() => new SweepSession(options, parse).RunAsync());
                ReportedRun? run = null;
                return CommandErrors.RunAsync(() => RunAsync(options, parse, r => run = r), () => run?.Advice);
            }
        );
        return command;
    }

    /// <param name="started">Takes the run, which has advice after a failure.</param>
    private static async Task<int> RunAsync(TrainOptions options, ParseResult parse, Action<ReportedRun> started)
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
        var run = new ReportedRun(console, interrupts, ResumeCommand.For(parse));
        started(run);
        return await run.RunAsync(path, overrides, options.Experiment(parse, ReportedRun.Events(console)));
    }
}
