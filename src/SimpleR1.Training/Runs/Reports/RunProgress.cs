namespace SimpleR1.Training.Runs.Reports;

/// <summary>What a run is doing within a step, for people who wait.</summary>
/// <param name="Activity">Such as "sampling", or "answering held-out problems".</param>
/// <param name="Step">The step that is being made; 0 before the first.</param>
/// <param name="Done">Parts that are done, of <paramref name="Of"/>.</param>
/// <param name="Of">All parts; 0 when they can't be counted.</param>
public sealed record RunProgress(string Activity, int Step, int Done = 0, int Of = 0)
{
    /// <summary>"step 3: sampling, 120 of 256"</summary>
    public override string ToString()
    {
        string where = Step == 0 ? "" : $"step {Step}: ";
        string count = Of == 0 ? "" : $", {Done} of {Of}";
        return where + Activity + count;
    }
}
