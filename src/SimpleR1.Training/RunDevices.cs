using SimpleR1.Cluster;
using SimpleR1.Cluster.Worker;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training;

/// <summary>Where a run computes: what its recipe names, or what is there.</summary>
internal sealed record RunDevices
{
    public required TrainerDevice Trainer { get; init; }

    /// <summary>Single devices; the worker processes take turns. Empty where others start the workers.</summary>
    public required IReadOnlyList<string> Workers { get; init; }

    /// <summary>Worker processes of this run.</summary>
    public required int WorkerCount { get; init; }

    /// <summary>Of the workers' weights on a GPU.</summary>
    public required ElementType WorkerType { get; init; }

    /// <summary>Workers on the trainer's GPU share its weights and its pool.</summary>
    public bool AreColocated { get; init; }

    /// <summary>Worker processes on the trainer's GPU.</summary>
    public int WorkersOnTrainer =>
        Workers.Count == 0
            ? 0
            : Enumerable.Range(0, WorkerCount).Count(i => Workers[i % Workers.Count] == Trainer.Name);

    public WorkerSettings ToSettings(int threads) =>
        new()
        {
            Device = string.Join(',', Workers),
            Type = WorkerType.Name,
            Threads = threads,
        };

    /// <summary>Resolves the recipe's devices on this machine. What is wrong becomes a problem of its key.</summary>
    /// <param name="config">The model; null where it could not be read.</param>
    /// <param name="startsWorkers">False where the workers are those of a head, or servers.</param>
    /// <param name="options">Its log has what auto could not take.</param>
    /// <returns>Null where there is a problem.</returns>
    public static RunDevices? Choose(
        CheckedRecipe<TrainRecipe> checking,
        ModelConfig? config,
        bool startsWorkers,
        ExperimentOptions options
    )
    {
        var (training, workers) = (checking.Recipe.Training, checking.Recipe.Workers);
        var named = checking.Try(
            "training.device",
            () => TrainerDevice.Choose(training.Device, training.Type, config, options.Events.Log)
        );
        var trainer = options.EvaluatesOnly ? TrainerDevice.Cpu : named; // nothing is trained: GPUs are the workers'
        var devices = startsWorkers
            ? checking.Try("workers.device", () => WorkersOf(workers.Device, named ?? TrainerDevice.Cpu, trainer))
            : [];
        if (trainer is null || devices is null || checking.IsMisread("workers"))
            return null;

        string type = workers.Type ?? (trainer.IsGpu ? trainer.Type.Name : WorkerSettings.DefaultType);
        var chosen = new RunDevices
        {
            Trainer = trainer,
            Workers = devices,
            WorkerCount = startsWorkers ? workers.Count ?? devices.Count : 0,
            WorkerType = ElementType.Parse(type),
        };
        bool canShare = trainer.IsGpu && chosen.WorkersOnTrainer > 0;
        if (startsWorkers && workers.Placement == WorkerPlacement.Colocated && !canShare)
        {
            checking.Add(
                "workers.placement",
                $"colocated needs a worker on the trainer's GPU; the trainer computes on {trainer.Name}, "
                    + $"workers on {string.Join(", ", devices)}"
            );
            return null;
        }
        bool shares = canShare && workers.Placement != WorkerPlacement.Separate && !workers.Overlap;
        return chosen with { AreColocated = shares };
    }

    /// <param name="named">The device that would train.</param>
    /// <param name="trainer">The device that does.</param>
    private static IReadOnlyList<string> WorkersOf(string device, TrainerDevice named, TrainerDevice? trainer)
    {
        if (device != "auto")
            return WorkerDevices.Expand(device);
        if (!named.IsGpu)
            return [named.Name];
        string[] others = [.. WorkerDevices.Expand("all").Where(gpu => gpu != trainer?.Name)];
        return others.Length > 0 ? others : [named.Name];
    }
}
