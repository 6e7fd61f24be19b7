using SimpleR1.Cluster;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Reports;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Training;

/// <summary>Callbacks for a run's events.</summary>
/// <param name="Log">Receives lines for a person.</param>
public sealed record ExperimentEvents(Action<StepReport> Step, Action<Evaluation> Evaluation, Action<string> Log)
{
    /// <summary>Receives how far the work within a step is, often.</summary>
    public Action<RunProgress> Progress { get; init; } = _ => { };
}

/// <summary>What an experiment needs in addition to its recipe.</summary>
/// <param name="RunsFolder">Folder that holds the run's folder, runs/NAME.</param>
/// <param name="Existing">What to do with a run of the same name.</param>
/// <param name="Join">The head whose workers to use; null starts a head and workers.</param>
/// <param name="ServerKey">The cluster key of the recipe's servers; null when they have none.</param>
public sealed record ExperimentOptions(
    string RunsFolder,
    ExistingRun Existing,
    ExperimentEvents Events,
    HeadAddress? Join = null,
    ClusterKey? ServerKey = null
)
{
    /// <summary>The command line without secrets, which the run's folder keeps.</summary>
    public string? CommandLine { get; init; }

    /// <summary>A run may be resumed with other problems, another template or tokenizer.</summary>
    public bool AllowChangedData { get; init; }

    /// <summary>Only held-out problems are answered; when the model is a checkpoint, after its step.</summary>
    public bool EvaluatesOnly { get; init; }
}
