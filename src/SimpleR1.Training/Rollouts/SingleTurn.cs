using SimpleR1.Inference;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>One question, one completion: the rewards score it.</summary>
public sealed class SingleTurn(Problem problem, RewardSet rewards) : IEnvironment
{
    /// <inheritdoc/>
    public async ValueTask<Reply> AnswerAsync(Completion completion, CancellationToken stop)
    {
        bool truncated = completion.FinishReason == FinishReason.Length;
        var input = new RewardInput(problem, completion.Text, truncated);
        return new Reply.Final(await rewards.ScoreAsync(input, stop)) { Input = input };
    }
}
