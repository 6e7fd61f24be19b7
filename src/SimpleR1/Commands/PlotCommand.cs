using System.CommandLine;
using SimpleR1.Training.Runs;

namespace SimpleR1.Commands;

internal static class PlotCommand
{
    public static Command Create()
    {
        var run = new Argument<string>("run") { Description = "A run's folder, such as runs/quickstart" };
        var output = new Option<string?>("--output", "-o") { Description = "PNG to write (default: RUN/plot.png)" };
        var command = new Command("plot", "Draw reward, accuracy and length of a run as a PNG") { run, output };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(() =>
                {
                    string folder = parse.GetValue(run)!,
                        png = parse.GetValue(output) ?? Path.Combine(folder, "plot.png");
                    Plot.Write(folder, png);
                    Console.WriteLine(png);
                    return Task.FromResult(0);
                })
        );
        return command;
    }
}
