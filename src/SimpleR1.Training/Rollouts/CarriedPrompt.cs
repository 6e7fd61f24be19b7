using SimpleR1.Inference;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// A prompt whose group was not complete when its step had enough: its samples go on in the next step, under the weights of then, behind the tokens they
/// have ("partial rollouts", Kimi Team 2025, "Kimi k1.5: Scaling Reinforcement Learning with LLMs", section 2.6.2).
/// </summary>
/// <param name="Position">In the data's order.</param>
/// <param name="Request">Asks for the samples that are missing; without any, all are there.</param>
/// <param name="Finished">The samples that are complete.</param>
internal sealed record CarriedPrompt(
    long Position,
    Problem Problem,
    GenerationRequest Request,
    IReadOnlyList<Rollout> Finished
);
