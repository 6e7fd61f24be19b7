using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards.Mathematics;

namespace SimpleR1.Training.Rewards;

/// <summary>What a reward sees of one sample.</summary>
/// <param name="Problem">The question, the gold answer and every column of the row.</param>
/// <param name="Completion">The model's text, after the part of the answer that the prompt template began, if any.</param>
/// <param name="Truncated">The completion ran into its length limit.</param>
public sealed record RewardInput(Problem Problem, string Completion, bool Truncated)
{
    /// <summary>Tokens of the completion, as sampled.</summary>
    public int Tokens { get; init; }

    /// <summary>Names the sample within its run, such as <c>step-3-prompt-5-sample-2</c>; a resumed run gives the same.</summary>
    public string Id { get; init; } = "";
}

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

    /// <summary>How each is made from its section of a recipe and the run's seed, and what it says of the answer.</summary>
    private static readonly Dictionary<string, (Func<RewardSection, ulong, Reward> Create, Judgement Judgement)> Known =
        new()
        {
            ["format"] = ((_, _) => Format, Judgement.Unknown),
            ["accuracy"] = ((section, _) => input => Accuracy(input, section.AcceptLastNumber), Judgement.Answer),
            ["countdown"] = ((_, _) => CountdownReward.Score, Judgement.Answer),
            ["overlong"] = ((section, _) => OverlongPenalty.Create(section), Judgement.None),
            ["random"] = ((_, seed) => RandomReward.Create(seed), Judgement.None),
        };

    /// <summary>Names that <see cref="Create"/> knows.</summary>
    public static IReadOnlyCollection<string> Names => Known.Keys;

    /// <summary>What the reward of this name says of the answer; nothing is known of one that is not built in.</summary>
    public static Judgement JudgementOf(string name) =>
        Known.TryGetValue(name, out var known) ? known.Judgement : Judgement.Unknown;

    /// <param name="seed">The run's; a reward that draws follows from it.</param>
    /// <exception cref="ArgumentException">No built-in reward has the section's name.</exception>
    public static Reward Create(RewardSection section, ulong seed) =>
        Known.TryGetValue(section.Name, out var known)
            ? known.Create(section, seed)
            : throw new ArgumentException(
                $"no built-in reward is called '{section.Name}'; there are {string.Join(", ", Known.Keys)}"
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
