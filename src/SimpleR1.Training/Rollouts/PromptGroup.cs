using SimpleR1.Inference;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// A prompt whose samples are compared with each other. A group that was not complete when its step had enough
/// continues in the next step, with that step's weights, after the tokens generated so far ("partial rollouts", Kimi
/// Team 2025, "Kimi k1.5: Scaling Reinforcement Learning with LLMs", section 2.6.2).
/// </summary>
/// <param name="Request">Asks for the samples that are missing; it asks for none when the group is complete.</param>
public sealed record PromptGroup(Problem Problem, GenerationRequest Request)
{
    /// <summary>Place of the problem in the data's order.</summary>
    public long Position { get; init; }

    /// <summary>Samples that earlier steps completed.</summary>
    public IReadOnlyList<Rollout> Finished { get; init; } = [];
}
