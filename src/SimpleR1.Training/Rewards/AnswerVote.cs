using SimpleR1.Training.Rewards.Mathematics;

namespace SimpleR1.Training.Rewards;

/// <summary>How samples of one problem vote for an answer.</summary>
/// <param name="Read">The answer in a completion; null when it has none, and then no vote.</param>
/// <param name="Same">Whether the second answer is a vote for the first.</param>
public sealed record AnswerVote(Func<string, string?> Read, Func<string, string, bool> Same)
{
    /// <summary>By the text of the answer block or \boxed{}, without them by the whole completion.</summary>
    public static AnswerVote ByText { get; } =
        new(
            text => BuiltInRewards.Answer(text) ?? text.Trim(),
            (a, b) => string.Equals(a, b, StringComparison.Ordinal)
        );

    /// <summary>By the text of the answer block or \boxed{}; a completion without them has no answer.</summary>
    public static AnswerVote ByAnswerText { get; } = ByText with { Read = BuiltInRewards.Answer };

    /// <summary>By the equality of the <c>accuracy</c> reward.</summary>
    public static AnswerVote ByMathematics(bool acceptLastNumber) =>
        new(
            text => BuiltInRewards.Answer(text) ?? (acceptLastNumber ? MathAnswers.LastNumber(text) : null),
            (a, b) => MathAnswers.Match(a, b, calculated: true)
        );

    /// <summary>
    /// The place of the first sample with the answer that most samples gave; of several such answers, the one that was
    /// given first. Null when no sample has an answer.
    /// </summary>
    public int? Winner(IReadOnlyList<string> completions)
    {
        var answers = new List<(string Answer, int First, int Votes)>();
        for (int i = 0; i < completions.Count; i++)
        {
            if (Read(completions[i]) is not { } answer)
                continue;
            int known = answers.FindIndex(a => Same(a.Answer, answer));
            if (known < 0)
                answers.Add((answer, i, 1));
            else
                answers[known] = answers[known] with { Votes = answers[known].Votes + 1 };
        }
        return answers.Count == 0 ? null : answers.MaxBy(a => a.Votes).First; // MaxBy takes the first of equals
    }
}
