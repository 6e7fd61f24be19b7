namespace SimpleR1.Training.Rewards;

/// <summary>What happens when a reward does not answer in time.</summary>
public enum TimeoutAction
{
    /// <summary>The run stops, with an error that names the reward and the completion.</summary>
    Stop,

    /// <summary>The completion earns 0 by this reward, and the metrics count it.</summary>
    Zero,
}

/// <summary>How long a reward may take, and how often it is called at once.</summary>
public sealed record RewardLimits
{
    /// <summary>Of one call; the time it waits for its turn does not count.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);
    public TimeoutAction OnTimeout { get; init; }

    /// <summary>Calls in flight at once, of a reward whose calls may overlap.</summary>
    public int Concurrency { get; init; } = 16;

    /// <summary>After this time the log names the reward and the completion.</summary>
    internal TimeSpan SlowAfter => Timeout / 2 < Slow ? Timeout / 2 : Slow;

    private static readonly TimeSpan Slow = TimeSpan.FromSeconds(5);
}
