using SimpleR1.Inference;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// What the policy talks with in one sample, from its first completion to its score. A new one is made for each sample.
/// </summary>
public interface IEnvironment
{
    /// <summary>
    /// What follows a completion: the sample's score, or tokens to read before the next turn. Answers that take time
    /// run in parallel with the sampling of others; those that return at once never overlap.
    /// </summary>
    ValueTask<Reply> AnswerAsync(Completion completion, CancellationToken stop);
}

/// <summary>An environment's answer to a completion.</summary>
public abstract record Reply
{
    private Reply() { }

    /// <summary>Ends the conversation.</summary>
    public sealed record Final(Score Score) : Reply
    {
        /// <summary>What rewards that see the whole group get of this sample; needed only for them.</summary>
        public RewardInput? Input { get; init; }
    }

    /// <summary>Begins another turn after these token ids, which the policy reads and is not trained on.</summary>
    public sealed record Continue(int[] Tokens) : Reply;
}
