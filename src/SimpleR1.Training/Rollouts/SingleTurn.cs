using SimpleR1.Inference;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>One question, one completion: the rewards score it.</summary>
/// <param name="answerStart">What the prompt already holds of the answer; the rewards see it before the completion.</param>
public sealed class SingleTurn(Problem problem, RewardSet rewards, string answerStart = "") : IEnvironment
{
    /// <inheritdoc/>
    public async ValueTask<Reply> AnswerAsync(Completion completion, CancellationToken stop)
    {
        bool truncated = completion.FinishReason == FinishReason.Length;
        var input = new RewardInput(problem, answerStart + completion.Text, truncated)
        {
            Tokens = completion.Tokens.Length,
            Id = $"{completion.RequestId}-sample-{completion.SampleIndex}",
        };
        return new Reply.Final(await rewards.ScoreAsync(input, stop)) { Input = input };
    }
}
