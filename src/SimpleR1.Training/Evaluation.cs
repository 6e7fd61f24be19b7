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
}

/// <summary>How a run ended.</summary>
/// <param name="Files">What it wrote, to name at the end.</param>
/// <param name="PeakMemory">Largest resident set of each process, in bytes.</param>
public sealed record RunOutcome(Evaluation? Before, Evaluation? After, int Step, bool Interrupted, double Seconds, IReadOnlyList<string> Files, IReadOnlyList<(string Process, long Bytes)> PeakMemory);
