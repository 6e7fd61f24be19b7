using System.CommandLine;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Worker;
using SimpleR1.Commands;
using SimpleR1.Commands.Bench;
using SimpleR1.Commands.Cluster;
using SimpleR1.Commands.Models;
using SimpleR1.Commands.Training;
using SimpleR1.Tensors;

const int UsageExitCode = 2;
SignalDefaults.Restore(); // before .NET looks at the signals
NativeMemoryTuning.Apply(); // before the first tensor is allocated

// A worker process, which train or simple-r1 worker has started; a person never starts it by hand.
if (await CommandErrors.RunAsync(() => WorkerProcess.RunIfAskedAsync(args)) is { } exitCode)
    return exitCode;

var root = new RootCommand(
    """
    SimpleR1: teach a base language model to reason by reinforcement learning with verifiable rewards.

    Start here:   simple-r1 train recipes/quickstart.yaml      a whole run in about two minutes, on two cores
    Then:         simple-r1 train my.yaml --set optimizer.learning_rate=1e-6
                  simple-r1 generate runs/NAME/checkpoints/step-000100 --escapes --prompt 'Q: 12+30-5\nA:'
    """
)
{
    TrainCommand.Create(),
    SftCommand.Create(),
    EvaluateCommand.Create(),
    CompareCommand.Create(),
    GenerateCommand.Create(),
    ServeCommand.Create(),
    PlotCommand.Create(),
    ResultsCommand.Create(),
    ExportCommand.Create(),
    BenchCommand.Create(),
    DoctorCommand.Create(),
    HeadCommand.Create(),
    WorkerCommand.Create(),
    StatusCommand.Create(),
    DrainCommand.Create(),
    KeyCommand.Create(),
    ClusterSelfTestCommand.Create(),
    RecipeReferenceCommand.Create(),
    CommandReferenceCommand.Create(),
};

var parsed = root.Parse(args.Length > 0 ? args : ["--help"]);
if (parsed.Errors.Count > 0)
{
    foreach (var error in parsed.Errors)
        Console.Error.WriteLine($"error: {error.Message}");
    var command = parsed.CommandResult.Command;
    Console.Error.WriteLine($"See: simple-r1 {(command == root ? "" : command.Name + " ")}--help");
    return UsageExitCode;
}

// Ctrl-C belongs to the commands: a run finishes its step and saves.
return await parsed.InvokeAsync(
    new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }
);
