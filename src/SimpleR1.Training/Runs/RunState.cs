using System.Text.Json;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs;

/// <summary>
/// Where a run is after a step, in addition to weights and moments. Sampling needs no generator state: every request's
/// seed is a function of (run seed, step, prompt), so the position is the state.
/// </summary>
/// <param name="Step">Optimizer steps on rollouts finished.</param>
/// <param name="OptimizerSteps">Updates the optimizer has made (several a step with mini-batches).</param>
/// <param name="DataPosition">Problems drawn so far.</param>
/// <param name="Seed">Seed of the run; a resumed run must have the same.</param>
/// <param name="StartHash">Hash of the weights that the run began with; a resumed run must name the same model.</param>
public sealed record RunState(int Step, long OptimizerSteps, long DataPosition, ulong Seed, ulong StartHash)
{
    /// <summary>
    /// Positions of problems whose samples were in flight (<c>rollout.carry</c>). A resumed run begins with them, from
    /// their first token.
    /// </summary>
    public IReadOnlyList<long> Carried { get; init; } = [];

    /// <summary>Indices of the problems that <c>rollout.difficulty</c> leaves out.</summary>
    public IReadOnlyList<int> LeftOut { get; init; } = [];

    /// <summary>The run's data and recipe; null when an older program wrote the checkpoint.</summary>
    public Fingerprint? Fingerprint { get; init; }

    public const string FileName = "state.json";

    public void Write(string folder) =>
        File.WriteAllText(Path.Combine(folder, FileName), JsonSerializer.Serialize(this));

    /// <summary>The training steps of a model folder's weights: a checkpoint's step, 0 for other folders.</summary>
    /// <exception cref="InvalidDataException">The checkpoint's state is damaged.</exception>
    public static int StepOf(string folder) => File.Exists(Path.Combine(folder, FileName)) ? Read(folder).Step : 0;

    /// <exception cref="InvalidDataException">The file is missing or damaged.</exception>
    public static RunState Read(string folder)
    {
        string path = Path.Combine(folder, FileName);
        try
        {
            return JsonSerializer.Deserialize<RunState>(File.ReadAllText(path)) ?? throw new JsonException("null");
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            throw new InvalidDataException(
                $"{path}: expected the state of a checkpoint, found: {e.Message}. "
                    + "Delete this folder to resume from the checkpoint before it.",
                e
            );
        }
    }
}
