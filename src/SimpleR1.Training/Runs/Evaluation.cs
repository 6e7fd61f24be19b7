using SimpleR1.Training.Rollouts;

namespace SimpleR1.Training.Runs;

/// <summary>Accuracy on held-out problems, answered with the weights of one version.</summary>
/// <param name="Step">Training steps that the weights have had.</param>
/// <param name="Answers">In the order of the problems.</param>
/// <param name="Seconds">Wall time; 0 when it was read from a file.</param>
public sealed record Evaluation(int Step, IReadOnlyList<Rollout> Answers, double Seconds)
{
    public int Correct => Answers.Count(a => a.Correct);
    public double Accuracy => (double)Correct / Answers.Count;
    public double MeanLength => Answers.Average(a => a.Tokens.Length);
    public double MeanReward => Answers.Average(a => a.Reward);

    /// <summary>File of the evaluation after a step: one rollout a line.</summary>
    public static string File(RunFolder run, int step) => Path.Combine(run.Evaluations, $"step-{step:D6}.jsonl");

    /// <summary>Keeps the answers for people, and for a resumed run, which then need not answer again.</summary>
    public void Write(RunFolder run)
    {
        string path = File(run, Step);
        string unfinished = path + ".tmp";
        Directory.CreateDirectory(run.Evaluations);
        System.IO.File.WriteAllLines(unfinished, Answers.Select(a => a.ToJson()));
        System.IO.File.Move(unfinished, path, overwrite: true);
    }

    /// <summary>The evaluation after a step; null unless the run has one of that many answers.</summary>
    public static Evaluation? Read(RunFolder run, int step, int answers)
    {
        if (!System.IO.File.Exists(File(run, step)))
            return null;
        Rollout[] read = [.. System.IO.File.ReadLines(File(run, step)).Select(Rollout.FromJson)];
        return read.Length == answers ? new(step, read, 0) : null;
    }

    /// <summary>Removes evaluations after a step: a run resumed from it makes them again.</summary>
    public static void Cut(RunFolder run, int step)
    {
        if (!Directory.Exists(run.Evaluations))
            return;
        foreach (string path in Directory.GetFiles(run.Evaluations, "step-??????.jsonl"))
            if (string.CompareOrdinal(path, File(run, step)) > 0)
                System.IO.File.Delete(path);
    }
}
