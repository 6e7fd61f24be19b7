using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Rewards;

/// <summary>Finds built-in rewards and compiles custom ones, each file once.</summary>
/// <param name="seed">The run's; a reward that draws follows from it.</param>
internal sealed class RewardLoader(ulong seed)
{
    private readonly Dictionary<string, RewardFile> files = [];

    /// <exception cref="RewardCompilationException">The reward's file does not compile or lacks the method.</exception>
    public WeightedReward Load(RewardSection section) =>
        new(section.Name, section.Weight, Find(section))
        {
            Judgement = JudgementOf(section),
            Limits = section.Limits,
            Vote = section.File is null ? VoteOf(section) : null,
        };

    private static AnswerVote? VoteOf(RewardSection section) =>
        section.Name switch
        {
            "accuracy" => AnswerVote.ByMathematics(section.AcceptLastNumber),
            "countdown" => AnswerVote.ByAnswerText,
            _ => null,
        };

    private static Judgement JudgementOf(RewardSection section) =>
        section.JudgesAnswers switch
        {
            true => Judgement.Answer,
            false => Judgement.None,
            null => section.File is null ? BuiltInRewards.JudgementOf(section.Name) : Judgement.Unknown,
        };

    private RewardFunction Find(RewardSection section)
    {
        if (section.File is not { } path)
            return RewardFunction.Plain(BuiltInRewards.Create(section, seed));
        string full = Path.GetFullPath(path);
        if (!files.TryGetValue(full, out var file))
            files[full] = file = RewardFile.Compile(path);
        return file.ByName(section.Name);
    }
}
