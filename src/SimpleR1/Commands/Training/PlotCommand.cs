using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Training.Runs;

namespace SimpleR1.Commands.Training;

internal static class PlotCommand
{
    public static Command Create()
    {
        var command = new Command("plot", "Draw reward, accuracy and length of runs as a PNG");
        var runs = new Argument<string[]>("run") { Arity = ArgumentArity.OneOrMore }.Describe(
            "Folders of runs, such as runs/quickstart; several are drawn into one picture"
        );
        command.Add(runs);
        var axis = new AxisOption(command, "step");
        var metrics = command
            .AddOption<string?>("--metrics")
            .Describe("Metrics to draw, with commas (docs/metrics.md); default: reward,accuracy,completion_length");
        var output = command
            .AddOption<string?>("--output", "-o")
            .Describe("PNG to write; default: RUN/plot.png, of several runs plot.png");
        command.SetHandler(parse =>
        {
            string[] folders = parse.GetValue(runs)!;
            string png = parse.GetValue(output) ?? (folders is [var one] ? Path.Combine(one, "plot.png") : "plot.png");
            var options = new PlotOptions { Axis = axis.Read(parse) };
            if (parse.GetValue(metrics) is { } names)
                options = options with { Metrics = names.Split(',', StringSplitOptions.TrimEntries) };
            Plot.Write(folders, png, options);
            Console.WriteLine(png);
        });
        return command;
    }
}
