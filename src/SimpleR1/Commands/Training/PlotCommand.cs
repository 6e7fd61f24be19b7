using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Training.Runs;

namespace SimpleR1.Commands.Training;

internal static class PlotCommand
{
    public static Command Create()
    {
        var command = new Command("plot", "Draw reward, accuracy and length of a run as a PNG");
        var run = command.AddArgument("run").Describe("A run's folder, such as runs/quickstart");
        var output = command.AddOption<string?>("--output", "-o").Describe("PNG to write; default: RUN/plot.png");
        command.SetHandler(parse =>
        {
            string folder = parse.GetValue(run)!;
            string png = parse.GetValue(output) ?? Path.Combine(folder, "plot.png");
            Plot.Write(folder, png);
            Console.WriteLine(png);
        });
        return command;
    }
}
