namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>
/// Bounds the work of one comparison by counting steps, not by a clock: the same answers are judged alike on every
/// machine. A step is about the evaluation of one node of an expression, some 50 ns.
/// </summary>
internal sealed class WorkBudget(long steps = WorkBudget.Comparison)
{
    /// <summary>Steps of one comparison: some 5 ms of work.</summary>
    public const long Comparison = 100_000;

    /// <summary>The budget is spent: the answers count as different.</summary>
    public sealed class SpentException : Exception;

    /// <exception cref="SpentException">No steps are left for this work.</exception>
    public void Spend(long work)
    {
        steps -= work;
        if (steps < 0)
            throw new SpentException();
    }
}
