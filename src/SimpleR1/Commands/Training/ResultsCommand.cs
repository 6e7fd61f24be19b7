using System.CommandLine;
using System.Globalization;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using SimpleR1.Training.Runs.Results;

namespace SimpleR1.Commands.Training;

internal static class ResultsCommand
{
    public static Command Create()
    {
        var command = new Command(
            "results",
            "Compare runs in a table: the seeds of a recipe are one row, with the time to reach given values"
        );
        var runs = new Argument<string[]>("run") { Arity = ArgumentArity.OneOrMore }.Describe(
            "Folders of runs, finished or in progress"
        );
        command.Add(runs);
        var metric = command
            .AddDefault("--metric", new ResultOptions().Metric)
            .Describe("A metric of evaluations (docs/metrics.md); higher is better");
        var axis = new AxisOption(command, RunAxis.Time.Name);
        var thresholds = command
            .AddDefault("--thresholds", string.Join(',', new ResultOptions().Thresholds.Select(Text)))
            .Describe("Values of the metric, with commas, that the time to reach them is given for");
        var output = command
            .AddOption<string?>("--output", "-o")
            .Describe("Folder for results.md, results.json and results.png");
        command.SetHandler(parse =>
        {
            var options = new ResultOptions
            {
                Metric = parse.GetValue(metric)!,
                Axis = axis.Read(parse),
                Thresholds = Numbers(parse.GetValue(thresholds)!),
            };
            var comparison = RunComparison.Read(parse.GetValue(runs)!, options);
            ResultReport.Print(comparison);
            if (parse.GetValue(output) is not { } folder)
                return;
            foreach (string file in ResultFiles.Write(comparison, folder, ResumeCommand.Given(parse)))
                Console.WriteLine(file);
        });
        return command;
    }

    private static string Text(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);

    private static double[] Numbers(string text) =>
        [.. text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Select(Number)];

    private static double Number(string text) =>
        double.TryParse(text, CultureInfo.InvariantCulture, out double value)
            ? value
            : throw new ArgumentException($"--thresholds: expected numbers such as 0.3,0.35, found '{text}'");
}
