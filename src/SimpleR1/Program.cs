using System.CommandLine;
using SimpleR1.Cluster.Worker;
using SimpleR1.Commands;
using SimpleR1.Tensors;

NativeMemoryTuning.Apply(); // before the first tensor is allocated
if (args is ["worker", .. var options] && options.Contains("--parent")) // started by train or by simple-r1 worker, never by hand
    return await CommandErrors.RunAsync(() => WorkerProcess.RunAsync(WorkerOptions.Parse(options), CancellationToken.None));

var root = new RootCommand(
    """
    SimpleR1: teach a base language model to reason by reinforcement learning with verifiable rewards.

    Start here:   simple-r1 train recipes/quickstart.yaml      a whole run in about two minutes, on two cores
    Then:         simple-r1 train my.yaml --set optimizer.learning_rate=1e-6
                  simple-r1 generate runs/NAME/checkpoints/step-000100 --prompt "Q: 12+30-5\nA:"
    """
)
{
    TrainCommand.Create(),
    SftCommand.Create(),
    EvaluateCommand.Create(),
    GenerateCommand.Create(),
    ServeCommand.Create(),
    PlotCommand.Create(),
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

// Ctrl-C is ours: a run finishes its step and saves.
var parsed = root.Parse(args.Length > 0 ? args : ["--help"]);
if (parsed.Errors.Count > 0)
{
    foreach (var error in parsed.Errors)
        Console.Error.WriteLine($"error: {error.Message}");
    Console.Error.WriteLine(
        $"See: simple-r1 {(parsed.CommandResult.Command == root ? "" : parsed.CommandResult.Command.Name + " ")}--help"
    );
    return 2;
}
return await parsed.InvokeAsync(
    new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }
);
