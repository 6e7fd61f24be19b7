namespace SimpleR1.Training.Rewards;

/// <summary>
/// Pays a completion, and looks at nothing else. A wrong or malformed completion is worth 0. A reward that throws is
/// broken, and stops the run.
/// </summary>
public delegate double Reward(RewardInput input);

/// <summary>Pays a completion after waiting for something: a program that runs its code, a model that judges it.</summary>
/// <param name="stop">Is cancelled at the reward's time limit, and when the run stops.</param>
public delegate ValueTask<double> AsyncReward(RewardInput input, CancellationToken stop);

/// <summary>Pays all completions of a prompt when the last of them has arrived.</summary>
/// <param name="group">In the order of the samples.</param>
/// <param name="stop">Is cancelled at the reward's time limit, and when the run stops.</param>
/// <returns>One number for each completion, in the same order.</returns>
public delegate ValueTask<IReadOnlyList<double>> GroupReward(IReadOnlyList<RewardInput> group, CancellationToken stop);

/// <summary>A reward of any form, as the others see it: completions in, one number for each out.</summary>
public sealed record RewardFunction
{
    private RewardFunction() { }

    /// <summary>Wants all completions of a prompt at once; other rewards get one at a time.</summary>
    public bool SeesGroup { get; private init; }

    /// <summary>Its calls may overlap; those of other rewards never do, so that they need not be thread-safe.</summary>
    public bool Overlaps { get; private init; }

    internal GroupReward Call { get; private init; } = null!;

    public static RewardFunction Plain(Reward reward) =>
        new() { Call = (inputs, _) => new([.. inputs.Select(input => reward(input))]) };

    public static RewardFunction Async(AsyncReward reward) =>
        new()
        {
            Overlaps = true,
            Call = async (inputs, stop) =>
            {
                var values = new double[inputs.Count];
                for (int i = 0; i < values.Length; i++)
                    values[i] = await reward(inputs[i], stop);
                return values;
            },
        };

    /// <param name="overlaps">Its calls for different prompts may overlap.</param>
    public static RewardFunction Group(GroupReward reward, bool overlaps = true) =>
        new()
        {
            SeesGroup = true,
            Overlaps = overlaps,
            Call = reward,
        };
}
