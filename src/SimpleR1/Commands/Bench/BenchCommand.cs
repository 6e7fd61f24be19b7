using System.CommandLine;
using System.Text.Json;
using SimpleR1.Bench;

namespace SimpleR1.Commands.Bench;

internal static class BenchCommand
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    public static Command Create()
    {
        var command = new Command("bench", "Reproducible measurements");
        command.Subcommands.Add(BenchEngineCommand.CreateSubcommand());
        command.Subcommands.Add(BenchSyncCommand.CreateSubcommand());
        return command;
    }

    /// <param name="path">The file; null writes none.</param>
    internal static void WriteJson(string? path, IReadOnlyList<BenchmarkResult> results)
    {
        if (path is not null)
            File.WriteAllText(path, JsonSerializer.Serialize(results, Json));
    }
}
