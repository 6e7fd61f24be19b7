using SimpleR1.Inference;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>One question, one completion: the rewards score it.</summary>
public sealed class SingleTurn(Problem problem, RewardSet rewards) : IEnvironment
{
    /// <inheritdoc/>
    public ValueTask<Reply> AnswerAsync(Completion completion, CancellationToken stop)
    {
        bool truncated = completion.FinishReason == FinishReason.Length;
        return new(new Reply.Final(rewards.Score(new(problem, completion.Text, truncated))));
    }
}
