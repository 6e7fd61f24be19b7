using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Rewards;

/// <summary>
/// Soft overlong punishment (Yu et al. 2025, "DAPO", section 3.4): a completion that comes near the length limit loses
/// reward bit by bit, so that one that was cut is not paid like one that was merely wrong.
/// </summary>
public static class OverlongPenalty
{
    internal static Reward Create(RewardSection section)
    {
        int soft = section.SoftLimit ?? throw new ArgumentException("the reward overlong needs a soft_limit");
        int hard = section.HardLimit ?? throw new ArgumentException("the reward overlong needs a hard_limit");
        return input => Score(input.Tokens, soft, hard);
    }

    /// <summary>0 up to the soft limit, then down in a straight line to -1 at the hard limit; all in tokens.</summary>
    public static double Score(int tokens, int softLimit, int hardLimit) =>
        -Math.Clamp((double)(tokens - softLimit) / (hardLimit - softLimit), 0, 1);
}
