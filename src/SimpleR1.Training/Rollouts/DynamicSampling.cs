namespace SimpleR1.Training.Rollouts;

/// <summary>
/// Dynamic sampling (Yu et al. 2025, "DAPO", section 3.2): a group whose samples all earned the same teaches nothing, so
/// a step drops it and samples other prompts in its place.
/// </summary>
/// <param name="groups">Groups to train on: <c>rollout.prompts_per_step</c>.</param>
/// <param name="refills">Times that a step may ask for more prompts: <c>rollout.refills</c>. 0 keeps all groups.</param>
internal sealed class DynamicSampling(int groups, int refills)
{
    private const double LeastShare = 0.125; // of groups with a signal, when the number of prompts to ask for is estimated

    /// <summary>True when all samples of a group earned the same.</summary>
    public static bool IsUniform(IEnumerable<Rollout> group) => group.Select(r => r.Reward).Distinct().Count() == 1;

    /// <summary>
    /// How many more prompts to ask for: as many as should make up for the groups that are missing, at the share of
    /// groups with a signal so far; at most a whole step's. 0 when there are enough, or no refill is left.
    /// </summary>
    /// <param name="rollouts">All of the step so far.</param>
    /// <param name="refilled">Times that the step has asked for more.</param>
    public int PromptsToAdd(IReadOnlyList<Rollout> rollouts, int refilled)
    {
        int sampled = rollouts.Select(r => r.Group).Distinct().Count();
        int useful = GroupsWithSignal(rollouts).Count();
        if (refilled >= refills || useful >= groups)
            return 0;
        double share = Math.Max(LeastShare, (double)useful / Math.Max(1, sampled));
        return (int)Math.Min(groups, Math.Ceiling((groups - useful) / share));
    }

    /// <summary>
    /// The rollouts to train on: the first groups that teach something, in their order; all of them when none does.
    /// </summary>
    public IReadOnlyList<Rollout> Kept(IReadOnlyList<Rollout> rollouts)
    {
        if (refills == 0)
            return rollouts;
        Rollout[] kept = [.. GroupsWithSignal(rollouts).Take(groups).SelectMany(g => g)];
        return kept.Length > 0 ? kept : rollouts;
    }

    private static IEnumerable<IGrouping<int, Rollout>> GroupsWithSignal(IReadOnlyList<Rollout> rollouts) =>
        rollouts.GroupBy(r => r.Group).Where(g => !IsUniform(g));

    /// <summary>What the metrics say of a step.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics(IReadOnlyList<Rollout> rollouts)
    {
        if (refills == 0)
            return [];
        int sampled = rollouts.Select(r => r.Group).Distinct().Count();
        int useful = GroupsWithSignal(rollouts).Count();
        return [new("groups_sampled", sampled), new("groups_trained", Math.Min(groups, useful))];
    }
}
