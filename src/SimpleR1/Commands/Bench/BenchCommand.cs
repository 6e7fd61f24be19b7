using System.CommandLine;
using System.Text.Json;
using SimpleR1.Bench;
using SimpleR1.Commands.Options;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Commands.Bench;

internal static class BenchCommand
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    public static Command Create()
    {
        var command = new Command("bench", "Reproducible measurements");
        command.Subcommands.Add(BenchEngineCommand.CreateSubcommand());
        command.Subcommands.Add(BenchSyncCommand.CreateSubcommand());
        command.Subcommands.Add(BenchTrainCommand.CreateSubcommand());
        return command;
    }

    internal static Argument<string> AddModel(Command command) =>
        command
            .AddArgument("model")
            .Describe($"A model folder, or a shape with random weights: {string.Join(", ", NamedShapes.Names)}");

    internal static Option<string?> AddJson(Command command) =>
        command.AddOption<string?>("--json").Describe("Write the figures to this file");

    /// <summary>A model folder's weights, or random ones of a named shape.</summary>
    internal static FlatWeights LoadWeights(ParseResult parse, DeviceOptions device, string name, CudaDevice? gpu)
    {
        if (Directory.Exists(name))
            return device.LoadWeights(parse, name, gpu);
        return NamedShapes.RandomWeights(NamedShapes.Get(name), device.ElementType(parse, gpu), gpu);
    }

    /// <param name="path">The file; null writes none.</param>
    internal static void WriteJson(string? path, IReadOnlyList<BenchmarkResult> results)
    {
        if (path is not null)
            File.WriteAllText(path, JsonSerializer.Serialize(results, Json));
    }

    internal static void PrintProfile(IReadOnlyList<(string Name, long Calls, double Milliseconds)> kernels)
    {
        double total = kernels.Sum(k => k.Milliseconds);
        Console.WriteLine($"{"kernel", -34} {"calls", 9} {"ms", 10} {"µs a call", 10} {"share", 7}");
        foreach (var (name, calls, milliseconds) in kernels)
        {
            double perCall = 1000 * milliseconds / calls; // µs
            double share = milliseconds / total;
            Console.WriteLine($"{name, -34} {calls, 9:N0} {milliseconds, 10:N1} {perCall, 10:N1} {share, 7:P1}");
        }
        Console.WriteLine($"{"all", -34} {kernels.Sum(k => k.Calls), 9:N0} {total, 10:N1}");
    }
}
