using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards.Mathematics;

namespace SimpleR1.Training.Rewards;

/// <summary>What a reward sees of one sample.</summary>
/// <param name="Problem">The question, the gold answer and every column of the row.</param>
/// <param name="Completion">The model's text, after the part of the answer that the prompt template began, if any.</param>
/// <param name="Truncated">The completion ran into its length limit.</param>
public sealed record RewardInput(Problem Problem, string Completion, bool Truncated);

/// <summary>The built-in rewards.</summary>
public static class BuiltInRewards
{
    /// <summary>
    /// Raised whenever a built-in reward scores some completion differently: evaluations by another version are made
    /// again.
    /// </summary>
    public const int Version = 3;

    private const string ThinkOpen = "<think>";
    private const string ThinkClose = "</think>";
    private const string AnswerOpen = "<answer>";
    private const string AnswerClose = "</answer>";

    private static readonly Dictionary<string, (Reward Reward, bool JudgesAnswers)> Known = new()
    {
        ["format"] = (Format, JudgesAnswers: false),
        ["accuracy"] = (input => Accuracy(input), JudgesAnswers: true),
        ["countdown"] = (CountdownReward.Score, JudgesAnswers: true),
    };

    /// <summary>Names that <see cref="ByName"/> knows.</summary>
    public static IReadOnlyCollection<string> Names => Known.Keys;

    /// <summary>True for a built-in reward that judges whether the answer solves the problem.</summary>
    public static bool JudgesAnswers(string name) => Known.TryGetValue(name, out var known) && known.JudgesAnswers;

    /// <exception cref="ArgumentException">No built-in reward has this name.</exception>
    public static Reward ByName(string name) =>
        Known.TryGetValue(name, out var known)
            ? known.Reward
            : throw new ArgumentException(
                $"no built-in reward is called '{name}'; there are {string.Join(", ", Known.Keys)}"
            );

    /// <summary>
    /// 1 when the whole completion is a think block and then an answer block, with each tag exactly once. White space
    /// around them is allowed.
    /// </summary>
    public static double Format(RewardInput input)
    {
        string text = input.Completion.Trim();
        if (
            !text.StartsWith(ThinkOpen, StringComparison.Ordinal)
            || !text.EndsWith(AnswerClose, StringComparison.Ordinal)
        )
            return 0;
        int close = text.IndexOf(ThinkClose, StringComparison.Ordinal);
        int open = text.IndexOf(AnswerOpen, StringComparison.Ordinal);
        bool ordered =
            close >= ThinkOpen.Length
            && open >= close + ThinkClose.Length
            && open + AnswerOpen.Length <= text.Length - AnswerClose.Length
            && string.IsNullOrWhiteSpace(text[(close + ThinkClose.Length)..open]);
        string[] tags = [ThinkOpen, ThinkClose, AnswerOpen, AnswerClose];
        bool once = tags.All(tag =>
            text.IndexOf(tag, StringComparison.Ordinal) == text.LastIndexOf(tag, StringComparison.Ordinal)
        );
        return ordered && once ? 1 : 0;
    }

    /// <summary>
    /// 1 when the completion's answer equals the gold answer (<see cref="MathAnswers.Match"/>); "6 * 7" does not answer
    /// 42.
    /// </summary>
    public static double Accuracy(RewardInput input, bool acceptLastNumber = false)
    {
        string? answer =
            Answer(input.Completion) ?? (acceptLastNumber ? MathAnswers.LastNumber(input.Completion) : null);
        return answer is not null && MathAnswers.Match(input.Problem.Answer, answer, calculated: true) ? 1 : 0;
    }

    /// <summary>
    /// The last answer block; without one the last \boxed{}; null without either. An answer block that is not closed
    /// does not count.
    /// </summary>
    public static string? Answer(string completion)
    {
        int close = completion.LastIndexOf(AnswerClose, StringComparison.Ordinal);
        int open = close < 0 ? -1 : completion.LastIndexOf(AnswerOpen, close, StringComparison.Ordinal);
        return open >= 0 ? completion[(open + AnswerOpen.Length)..close].Trim() : MathText.LastBoxed(completion);
    }
}
