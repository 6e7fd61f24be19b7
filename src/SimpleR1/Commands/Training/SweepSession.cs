using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using SimpleR1.Training.Planning;
using SimpleR1.Training.Runs.Results;
using SimpleR1.Training.Sweeps;

namespace SimpleR1.Commands.Training;

/// <summary>train --sweep: the runs of a grid, one after another in this process, and the table of them.</summary>
internal sealed class SweepSession(TrainOptions options, ParseResult parse)
{
    private const int FailedExitCode = 1;
    private readonly ConsoleReport console = new();

    /// <summary>Runs what is not finished. A run that fails is reported, and the next one starts.</summary>
    /// <returns>The exit code: that of an interruption, or 1 where a run has failed.</returns>
    public async Task<int> RunAsync()
    {
        // All that can be wrong comes before the first run
        var grid = SweepGrid.Read(options.Run.Path(parse), options.Run.Overrides(parse), options.Sweep(parse));
        grid.Check(options.Experiment(parse, new(_ => { }, _ => { }, _ => { })));
        if (options.Run.IsDryRun(parse))
        {
            Describe(grid);
            return 0;
        }

        // The runs
        using var interrupts = new Interrupts("finishing this step, then saving and ending the sweep", console.Log);
        var failed = new List<string>();
        for (int i = 0; i < grid.Runs.Count && !interrupts.Token.IsCancellationRequested; i++)
        {
            console.Log($"run {i + 1} of {grid.Runs.Count}: {grid.Runs[i].Name}");
            int code = await RunAsync(grid, grid.Runs[i], interrupts);
            if (code == FailedExitCode)
                failed.Add(grid.Runs[i].Name);
        }

        // The table
        Report(grid);
        if (failed.Count > 0)
            console.Log($"failed: {string.Join(", ", failed)}; continue with: {ResumeCommand.For(parse)}");
        if (interrupts.Token.IsCancellationRequested)
            return Interrupts.ExitCode;
        return failed.Count > 0 ? FailedExitCode : 0;
    }

    private async Task<int> RunAsync(SweepGrid grid, SweepRun run, Interrupts interrupts)
    {
        var experiment = options.Experiment(parse, ReportedRun.Events(console));
        if (run.StartOf(grid.Recipe, experiment.RunsFolder, experiment.Existing) is not { } existing)
        {
            console.Log("finished before");
            return 0;
        }
        var reported = new ReportedRun(console, interrupts, ResumeCommand.For(parse));
        return await CommandErrors.RunAsync(
            () => reported.RunAsync(grid.Recipe, run.Overrides, experiment with { Existing = existing }),
            () => reported.Advice
        );
    }

    /// <summary>Prints the table of the runs that have begun, and writes it with its picture to runs/NAME-sweep.</summary>
    private void Report(SweepGrid grid)
    {
        string runs = options.Run.Runs(parse);
        string command = ResumeCommand.Given(parse);
        string[] folders =
        [
            .. grid
                .Runs.Select(run => Path.Combine(runs, run.Name))
                .Where(f => File.Exists(Path.Combine(f, "recipe.yaml"))),
        ];
        if (folders.Length == 0)
            return;
        var comparison = RunComparison.Read(folders, new());
        console.Log("");
        ResultReport.Print(comparison);
        foreach (string file in ResultFiles.Write(comparison, Path.Combine(runs, grid.Name + "-sweep"), command))
            console.Log(file);
    }

    private void Describe(SweepGrid grid)
    {
        var experiment = options.Experiment(parse, new(_ => { }, _ => { }, Console.WriteLine));
        foreach (var run in grid.Runs)
        {
            Console.WriteLine($"{run.Name}:");
            if (run.StartOf(grid.Recipe, experiment.RunsFolder, experiment.Existing) is { } existing)
                Console.Write(TrainPlan.Describe(grid.Recipe, run.Overrides, experiment with { Existing = existing }));
            else
                Console.WriteLine("finished before");
        }
    }
}
