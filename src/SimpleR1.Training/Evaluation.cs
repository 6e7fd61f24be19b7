namespace SimpleR1.Training;

/// <summary>Accuracy on held-out problems, answered by the weights of one version.</summary>
/// <param name="Step">Training steps behind the weights.</param>
/// <param name="Answers">In the order of the problems.</param>
public sealed record Evaluation(int Step, IReadOnlyList<Rollout> Answers, double Seconds)
{
    public int Correct => Answers.Count(a => a.Correct);
    public double Accuracy => (double)Correct / Answers.Count;
    public double MeanLength => Answers.Average(a => a.Tokens.Length);
    public double MeanReward => Answers.Average(a => a.Reward);

    /// <summary>Where a run keeps the answers of an evaluation, one <see cref="Rollout"/> a line.</summary>
    public static string FileOf(RunFolder run, int step) => Path.Combine(run.Path, "evaluations", $"step-{step:D6}.jsonl");

    /// <summary>Writes all answers; the file appears when it is complete.</summary>
    public void Write(string file)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllLines(file + ".tmp", Answers.Select(a => a.ToJson()));
        File.Move(file + ".tmp", file, overwrite: true);
    }

    public static Evaluation Read(string file, int step) => new(step, [.. File.ReadLines(file).Select(Rollout.FromJson)], 0);
}

/// <summary>How a run ended.</summary>
/// <param name="Files">What it wrote, to name at the end.</param>
/// <param name="PeakMemory">Largest resident set of each process, in bytes.</param>
public sealed record RunOutcome(Evaluation? Before, Evaluation? After, int Step, bool Interrupted, double Seconds, IReadOnlyList<string> Files, IReadOnlyList<(string Process, long Bytes)> PeakMemory);
