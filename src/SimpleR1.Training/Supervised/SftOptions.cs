using SimpleR1.Training.Runs;

namespace SimpleR1.Training.Supervised;

/// <summary>What training on text needs in addition to its recipe.</summary>
/// <param name="RunsFolder">Folder that holds the run's folder, runs/NAME.</param>
/// <param name="Existing">
/// What to do with a run of the same name, and with a model in the output folder, which is replaced only with
/// <see cref="ExistingRun.Overwrite"/>.
/// </param>
/// <param name="Step">Receives each step.</param>
/// <param name="Log">Receives lines for a person.</param>
public sealed record SftOptions(string RunsFolder, ExistingRun Existing, Action<SftStep> Step, Action<string> Log);

/// <summary>How training on text ended.</summary>
/// <param name="Step">Steps finished.</param>
/// <param name="Interrupted">True when steps are missing; the output is not written then.</param>
/// <param name="Loss">
/// Mean over the held-out texts at the end, or of the last step when there are none; null when no step was made.
/// </param>
/// <param name="Files">What was written, relative to the working directory when it is inside.</param>
public sealed record SftOutcome(int Step, bool Interrupted, double? Loss, IReadOnlyList<string> Files);
