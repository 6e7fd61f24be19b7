using SimpleR1.Inference;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Rollouts;

/// <summary>One sample while it runs: its environment, and what was sampled and read so far.</summary>
internal sealed class Conversation(PromptGroup prompt, int group, int sample, IEnvironment environment)
{
    private readonly List<Segment> segments = [Segment.Read(prompt.Request.PromptTokens)];
    private readonly List<string> texts = [];
    private FinishReason finishReason;

    public async Task<Reply> AnswerAsync(Completion completion, CancellationToken stop)
    {
        segments.Add(new(completion.Tokens, completion.LogProbs, completion.WeightVersions));
        texts.Add(completion.Text);
        finishReason = completion.FinishReason;
        return await environment.AnswerAsync(completion, stop);
    }

    /// <summary>
    /// The request for the next turn: the prompt is all so far, so a worker's prefix cache holds most of it.
    /// </summary>
    public GenerationRequest NextTurn(int[] read)
    {
        segments.Add(Segment.Read(read));
        var first = prompt.Request;
        ulong seed = SplitMix64.Mix(first.Sampling.Seed + SplitMix64.Mix((ulong)texts.Count << 32 | (uint)sample));
        return first with
        {
            Id = $"{first.Id}-sample-{sample}-turn-{texts.Count}",
            PromptTokens = [.. segments.SelectMany(s => s.Tokens)],
            Sampling = first.Sampling with { Samples = 1, Seed = seed },
        };
    }

    public Rollout Finish(Reply.Final reply) =>
        new()
        {
            Group = group,
            Sample = sample,
            Question = prompt.Problem.Question,
            Gold = prompt.Problem.Answer,
            Source = prompt.Problem.Source,
            Text = string.Join('\n', texts),
            Reward = reply.Score.Total,
            Rewards = reply.Score.ByName,
            Correct = reply.Score.Correct,
            TimedOut = reply.Score.TimedOut,
            Input = reply.Input,
            FinishReason = finishReason,
            Segments = segments,
        };
}
