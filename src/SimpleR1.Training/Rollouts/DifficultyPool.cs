using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// Leaves out problems that were solved too often or too seldom to teach anything when they were last asked. A share of
/// their turns is taken all the same, because the policy changes (an online form of the difficulty filters of Kimi Team
/// 2025, "Kimi k1.5", section 2.1).
/// </summary>
internal sealed class DifficultyPool(DifficultySection options, ulong seed)
{
    private readonly SortedSet<int> leftOut = [];

    /// <summary>The recipe's pool, with what was measured before; null when it leaves nothing out.</summary>
    /// <param name="solved">By the problem's index, the share of samples that solved it.</param>
    public static DifficultyPool? Create(TrainRecipe recipe, IReadOnlyDictionary<int, double> solved)
    {
        if (!recipe.Rollout.Difficulty.LeavesOut)
            return null;
        var pool = new DifficultyPool(recipe.Rollout.Difficulty, recipe.Seed);
        foreach (var (problem, share) in solved)
            pool.Measure(problem, share);
        return pool;
    }

    /// <summary>Indices of the problems that are left out, ascending; a checkpoint stores them.</summary>
    public IReadOnlyList<int> LeftOut => [.. leftOut];

    /// <summary>Takes up what a checkpoint stores.</summary>
    public void Resume(IReadOnlyList<int> problems)
    {
        leftOut.Clear();
        leftOut.UnionWith(problems);
    }

    /// <summary>Whether a problem is asked when its turn comes.</summary>
    /// <param name="position">The turn's place in the data's order: what is taken all the same follows from it.</param>
    public bool Asks(int problem, long position)
    {
        if (!leftOut.Contains(problem))
            return true;
        var random = new SplitMix64(SplitMix64.Mix(seed ^ 0xD1FF) + (ulong)position);
        return random.NextDouble() < options.Revisit;
    }

    /// <summary>Takes in how a problem was answered.</summary>
    /// <param name="solved">Share of its samples that solved it, 0 to 1.</param>
    public void Measure(int problem, double solved)
    {
        if (solved < options.MinSolved || solved > options.MaxSolved)
            leftOut.Add(problem);
        else
            leftOut.Remove(problem);
    }
}
