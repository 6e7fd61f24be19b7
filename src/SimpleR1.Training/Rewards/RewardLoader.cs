using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Rewards;

/// <summary>Finds built-in rewards and compiles custom ones, each file once.</summary>
internal sealed class RewardLoader
{
    private readonly Dictionary<string, RewardFile> files = [];

    /// <exception cref="RewardCompilationException">The reward's file does not compile or lacks the method.</exception>
    public WeightedReward Load(RewardSection section) =>
        new(
            section.Name,
            section.Weight,
            Find(section),
            section.JudgesAnswers ?? BuiltInRewards.JudgesAnswers(section.Name)
        )
        {
            Limits = section.Limits,
            Vote = section is { File: null, Name: "accuracy" }
                ? AnswerVote.ByMathematics(section.AcceptLastNumber)
                : null,
        };

    private RewardFunction Find(RewardSection section)
    {
        if (section.File is not { } path)
            return RewardFunction.Plain(
                section is { Name: "accuracy", AcceptLastNumber: true }
                    ? input => BuiltInRewards.Accuracy(input, true)
                    : BuiltInRewards.ByName(section.Name)
            );
        string full = Path.GetFullPath(path);
        if (!files.TryGetValue(full, out var file))
            files[full] = file = RewardFile.Compile(path);
        return file.ByName(section.Name);
    }
}
