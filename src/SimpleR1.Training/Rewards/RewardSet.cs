using System.Diagnostics;
using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Rewards;

/// <summary>A completion's pay: the weighted sum and each reward's own value, unweighted.</summary>
public sealed record Score(double Total, IReadOnlyDictionary<string, double> ByName)
{
    /// <summary>
    /// True when the answer solves the problem: full marks by every reward that judges answers, or by all rewards when
    /// none does.
    /// </summary>
    public bool Correct { get; init; }
}

/// <summary>A reward of a set.</summary>
/// <param name="Weight">Factor in the sum.</param>
/// <param name="JudgesAnswers">The reward is 1 or more exactly when the answer solves the problem.</param>
public sealed record WeightedReward(string Name, double Weight, Reward Reward, bool JudgesAnswers = false)
{
    /// <summary>How answers that the reward judges are compared with each other; null when the reward does not say.</summary>
    public AnswerVote? Vote { get; init; }
}

/// <summary>
/// A reward threw or returned no number. That is a bug in the reward; it stops the run, which would otherwise train on
/// it.
/// </summary>
public sealed class RewardException(string message, Exception? inner) : Exception(message, inner);

/// <summary>Several rewards with weights. Safe to call from several threads if the custom rewards are.</summary>
public sealed class RewardSet
{
    private readonly IReadOnlyList<WeightedReward> rewards;
    private readonly string[] judges;

    public RewardSet(IReadOnlyList<WeightedReward> rewards)
    {
        if (rewards.GroupBy(r => r.Name).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new ArgumentException($"the reward '{twice.Key}' is given twice; add the weights up");
        this.rewards = rewards;
        var judging = rewards.Any(r => r.JudgesAnswers) ? rewards.Where(r => r.JudgesAnswers) : rewards;
        judges = [.. judging.Select(r => r.Name)];
    }

    /// <summary>The rewards' names, in order.</summary>
    public IEnumerable<string> Names => rewards.Select(r => r.Name);

    /// <summary>How samples vote for an answer: as the first judge that says how compares answers, else by their text.</summary>
    public AnswerVote Vote =>
        rewards.Where(r => judges.Contains(r.Name)).Select(r => r.Vote).FirstOrDefault(vote => vote is not null)
        ?? AnswerVote.ByText;

    /// <summary>Finds built-in rewards and compiles custom ones, each file once.</summary>
    /// <exception cref="RewardCompilationException">A reward file does not compile or lacks the method.</exception>
    public static RewardSet Load(IEnumerable<RewardSection> sections)
    {
        var files = new Dictionary<string, RewardFile>();
        return new([
            .. sections.Select(section => new WeightedReward(
                section.Name,
                section.Weight,
                Find(section),
                section.JudgesAnswers ?? BuiltInRewards.JudgesAnswers(section.Name)
            )
            {
                Vote = section is { File: null, Name: "accuracy" }
                    ? AnswerVote.ByMathematics(section.AcceptLastNumber)
                    : null,
            }),
        ]);

        Reward Find(RewardSection section)
        {
            if (section.File is not { } path)
                return section is { Name: "accuracy", AcceptLastNumber: true }
                    ? input => BuiltInRewards.Accuracy(input, true)
                    : BuiltInRewards.ByName(section.Name);
            string full = Path.GetFullPath(path);
            if (!files.TryGetValue(full, out var file))
                files[full] = file = RewardFile.Compile(path);
            return file.ByName(section.Name);
        }
    }

    /// <exception cref="RewardException">A reward threw, or returned NaN or infinity.</exception>
    public Score Score(RewardInput input)
    {
        double total = 0;
        var values = new Dictionary<string, double>(rewards.Count);
        foreach (var reward in rewards)
        {
            double value = Value(reward, input);
            values[reward.Name] = value;
            total += reward.Weight * value;
        }
        bool correct = judges.Length > 0 && judges.All(name => values[name] >= 1);
        return new(total, values) { Correct = correct };
    }

    private static double Value(WeightedReward reward, RewardInput input)
    {
        double value;
        try
        {
            value = reward.Reward(input);
        }
        catch (Exception e)
        {
            throw new RewardException(
                $"the reward '{reward.Name}' threw {e.GetType().Name}: {e.Message}{Line(e)}\n{Describe(input)}",
                e
            );
        }
        return double.IsFinite(value)
            ? value
            : throw new RewardException(
                $"the reward '{reward.Name}' returned {value}; it must return a finite number\n{Describe(input)}",
                null
            );
    }

    private static string Line(Exception e) =>
        new StackTrace(e, fNeedFileInfo: true).GetFrames().FirstOrDefault(f => f.GetFileName() is not null) is { } frame
            ? $" ({frame.GetFileName()}:{frame.GetFileLineNumber()})"
            : "";

    private static string Describe(RewardInput input) =>
        $"  problem: {Excerpt(input.Problem.Question)}\n"
        + $"  gold answer: {Excerpt(input.Problem.Answer)}\n"
        + $"  completion: {Excerpt(input.Completion)}";

    private static string Excerpt(string text) => text.Length <= 300 ? text : $"{text[..150]} … {text[^150..]}";
}
