using SimpleR1.Training.Data;

namespace SimpleR1.Training.Rewards;

/// <summary>
/// Pays by chance, whatever the completion says: the control that shows how much of a gain is no learning from rewards
/// (Shao et al. 2025, "Spurious Rewards: Rethinking Training Signals in RLVR").
/// </summary>
public static class RandomReward
{
    internal static Reward Create(ulong seed) => input => Draw(seed, input.Id);

    /// <summary>0 or 1, each for one half of all samples. It follows from the run's seed and the sample's name alone.</summary>
    public static double Draw(ulong seed, string sample)
    {
        ulong state = SplitMix64.Mix(seed ^ 0xC0115EED);
        foreach (char letter in sample)
            state = SplitMix64.Mix(state + letter);
        return state >> 63;
    }
}
